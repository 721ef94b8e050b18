"""Optimizations of the sampler, each with a switch (docs/speed.md)."""

from pcb.config.base import Settings


class Speed(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sampling computes once instead of at every step, and how it calls a GPU.

    Results are the same up to float rounding, so none of this enters a key. All of it is on; the
    switches are there to measure each (`python -m benchmarks`), and to look for an error.
    """

    modulation: bool = True
    """Shift and scale of all norms once per batch: they depend on the classes alone."""
    tables: bool = True
    """Positions and code vectors enter through tables; the head MLP adds to the head once."""
    phases: bool = True
    """Rotary phases, and their mixtures, once per schedule."""
    small_batches: bool = True
    """On a CPU, fill up a small batch only in steps of few tokens, where rounding asks for it.

    Needs `modulation`, whose products have a row per image."""
    graphs: bool = True
    """On a GPU, every step is a CUDA graph: one call instead of hundreds."""


BASELINE = Speed(modulation=False, tables=False, phases=False, small_batches=False, graphs=False)
"""Without any optimization."""
