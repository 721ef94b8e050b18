"""Images of every kind, their index, and crops."""
