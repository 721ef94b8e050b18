"""The clock by which tests say that something is quick: time that others take is not in it."""

import os


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those of its processes that have ended."""
    return sum(os.times()[:4])
