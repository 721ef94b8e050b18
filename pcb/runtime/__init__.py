"""Basics of a process: atomic files, locks, devices, ranks, signals, progress."""
