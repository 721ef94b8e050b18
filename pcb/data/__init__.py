"""Images, token caches, and how they are read."""
