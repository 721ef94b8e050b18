"""Metrics of samples: features of images, scores computed from them, and ADM's protocol."""
