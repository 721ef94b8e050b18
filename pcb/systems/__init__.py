"""The other systems of the paper's table: transformer, order and released file of each."""
