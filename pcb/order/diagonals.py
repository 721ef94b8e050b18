"""Anti-diagonals, one after another (NAR, arXiv 2503.10696)."""

import numpy as np
from numpy.typing import NDArray


def diagonal_order(n: int) -> NDArray[np.int64]:
    """Return the n*n row-major cell indices in sampling order: by row + column, then by row."""
    row, column = np.divmod(np.arange(n * n), n)
    return np.lexsort((row, row + column)).astype(np.int64)


def diagonal_blocks(n: int) -> tuple[int, ...]:
    """Return the sizes of the blocks: the 2n - 1 anti-diagonals."""
    return (*range(1, n + 1), *range(n - 1, 0, -1))
