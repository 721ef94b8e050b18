"""Published files: catalog, fetching, released checkpoints, parity."""
