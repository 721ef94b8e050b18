"""Training a transformer on cached tokens (paper, section 5)."""
