"""Published settings, scores and files of the systems in the paper's table. No torch."""
