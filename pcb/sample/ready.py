"""A model that is ready to sample, and the random inputs of its images.

Letters: B images, T tokens of an image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcb.sample.sampler import Sampler

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The paper's own model under one config, or another system as it was published."""

    sampler: Sampler
    labels: Callable[[Indices], Indices]
    """Classes (B,) of images."""
    orders: Callable[[Indices], Indices] | None = None
    """Orders (B, T) of images, where they are random."""
    sizes: tuple[int, ...]
    """Sides of the grids whose tokens have random numbers, first to last."""
    sides: Sequence[int]
    """Of every step the side of its grid."""
    results: Mapping[str, Any]
    """What a manifest says of the schedule, beside the number of steps."""
