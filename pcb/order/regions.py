"""Cells at the same place of every region together (PAR, arXiv 2412.15119)."""

import math

import numpy as np
from numpy.typing import NDArray


def region_order(n: int, regions: int) -> NDArray[np.int64]:
    """Return the n*n row-major cell indices in sampling order.

    The grid is cut into `regions` equal squares, a square number of them. The cells at a region's
    first place come first, one per region and regions in raster order, then those at its second
    place, also in raster order, and so on.

    Raises ValueError where the grid cannot be cut so.
    """
    side = math.isqrt(max(regions, 0))
    if side < 1 or side * side != regions or n % side:
        raise ValueError(f"a grid of {n} x {n} cells cannot be cut into {regions} equal squares")
    return place_order(n, n // side)


def place_order(n: int, side: int) -> NDArray[np.int64]:
    """Return the n*n row-major cell indices by their place in a region, then by region.

    Regions are `side` cells per side from the top left on; the last ones may be smaller, so that
    every grid has such an order.
    """
    row, column = np.divmod(np.arange(n * n), n)
    keys = (column // side, row // side, column % side, row % side)
    return np.lexsort(keys).astype(np.int64)


def region_blocks(n: int, regions: int) -> tuple[int, ...]:
    """Return the sizes of the blocks: the first cells of all regions alone, then one per region."""
    return (1,) * regions + (regions,) * (n * n // regions - 1)
