"""What others made: catalog of published files, fetching, released checkpoints, parity."""
