"""The other systems of the table: the transformer, order and released file of each."""
