"""Parity of the other systems: recorded folders, computed anew."""
