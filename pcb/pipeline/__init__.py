"""Bookkeeping of results: tasks, keys, manifests, staleness, DVC. No torch."""
