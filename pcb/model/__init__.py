"""The transformer: sequence, rotary phases, attention layers, cache (paper, section 4)."""
