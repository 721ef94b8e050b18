"""Pixels: images of every kind, their index, and crops."""
