"""Cells in the order in which a Halton sequence meets them (Halton-MaskGIT, arXiv 2503.17076)."""

from itertools import count

import numpy as np
from numpy.typing import NDArray

_POINTS = 1024
"""Points made at a time."""


def halton_order(n: int) -> NDArray[np.int64]:
    """Return the n*n row-major cell indices in sampling order.

    Point i = 1, 2, ... lies at (radical inverse of i in base 2, in base 3), as fractions of the
    grid's rows and columns. A cell is sampled when the first point falls into it.

    Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"a grid needs at least one cell per side, got n = {n}")
    cells = np.empty(0, dtype=np.int64)
    for start in count(1, _POINTS):
        points = range(start, start + _POINTS)
        met = np.array([_part_of(i, 2, n) * n + _part_of(i, 3, n) for i in points], dtype=np.int64)
        cells = np.concatenate([cells, met])
        _, first = np.unique(cells, return_index=True)
        cells = cells[np.sort(first)]
        if len(cells) == n * n:
            break
    return cells


def radical_inverse(index: int, base: int) -> tuple[int, int]:
    """Return numerator and denominator of the index's digits, mirrored at the point."""
    numerator, denominator = 0, 1
    while index:
        index, digit = divmod(index, base)
        numerator, denominator = numerator * base + digit, denominator * base
    return numerator, denominator


def _part_of(index: int, base: int, n: int) -> int:
    """Return which of n equal parts of [0, 1) the point lies in, without rounding."""
    numerator, denominator = radical_inverse(index, base)
    return n * numerator // denominator
