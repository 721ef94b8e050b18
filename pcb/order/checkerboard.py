"""The progressive checkerboard: the sampling order of one scale's cells (paper, section 3).

Knows nothing of scales, blocks or models: one square grid in, one grid of ranks out.
"""

import numpy as np
from numpy.typing import NDArray


def progressive_checkerboard(n: int) -> NDArray[np.int64]:
    """Return the n x n grid of ranks: 0 is sampled first, n*n - 1 last.

    For n a power of two the order is recursive: order each quadrant, then interleave the four
    lists round-robin as top-left, bottom-right, top-right, bottom-left. Every prefix is then
    balanced: at every level of the quadtree the counts of sibling cells differ by at most one.
    For any other n the order of the next power of two is cropped to the top-left n x n cells and
    ranked again.

    Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"a grid needs at least one cell per side, got n = {n}")
    side = 1
    ranks = np.zeros((1, 1), dtype=np.int64)
    while side < n:
        # Cell (r, c) of a quadrant with rank k gets rank 4k + (the quadrant's turn).
        top = np.hstack([4 * ranks, 4 * ranks + 2])
        bottom = np.hstack([4 * ranks + 3, 4 * ranks + 1])
        ranks = np.vstack([top, bottom])
        side *= 2
    return _rank(ranks[:n, :n])


def checkerboard_order(n: int) -> NDArray[np.int64]:
    """Return the n*n row-major cell indices in sampling order."""
    return np.argsort(progressive_checkerboard(n), axis=None)


def _rank(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replace distinct values by their ranks 0, 1, 2, ..."""
    ranks = np.empty(values.size, dtype=np.int64)
    ranks[np.argsort(values, axis=None)] = np.arange(values.size)
    return ranks.reshape(values.shape)
