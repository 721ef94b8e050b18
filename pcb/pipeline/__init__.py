"""What is up to date: tasks, keys, manifests, staleness, DVC. No torch."""
