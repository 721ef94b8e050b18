"""Raster order, one cell at a time (LlamaGen)."""

import numpy as np
from numpy.typing import NDArray


def raster_order(n: int) -> NDArray[np.int64]:
    """Return the n*n row-major cell indices in sampling order: row by row."""
    return np.arange(n * n, dtype=np.int64)


def raster_blocks(n: int) -> tuple[int, ...]:
    """Return the sizes of the blocks: every cell is its own."""
    return (1,) * (n * n)
