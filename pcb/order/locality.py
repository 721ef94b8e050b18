"""LPD's locality-aware order: each block near sampled cells, its own cells apart from each other.

After Zhang et al., "Locality-aware Parallel Decoding" (arXiv 2507.01957), with the ties, the
shuffling and the generator of the published orders, so that a seed gives their order. Cells
are row-major indices of a square grid.
"""

import math
import random
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

NEAR = 1.0
"""Least proximity of a near cell: one neighbor at a side suffices. While a cell is free, one is
near, since some free cell always lies beside a sampled one."""
GROUP_SIZES = {
    (256, 20): (1, 2, 4, 5, 7, 8, 10, 11, 12, 14, 15, 16, 17, 18, 18, 19, 19, 20, 20, 20),
    (256, 32): (1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 10, 11, 11, 11, 11)
    + 8 * (12,),
}
"""(tokens, steps) to tokens of each block, as published (the lists follow a cosine, adjusted)."""


def group_sizes(tokens: int, steps: int) -> tuple[int, ...]:
    """Return the tokens of each block: the published table, else a cosine like it.

    The first block has one token and every block at least one; N (1 - cos(pi t / 2S)) of N tokens
    are sampled after t of S steps, rounded. Raises ValueError for more steps than tokens.
    """
    if (tokens, steps) in GROUP_SIZES:
        return GROUP_SIZES[tokens, steps]
    if not 1 <= steps <= tokens or (steps == 1 and tokens > 1):
        raise ValueError(f"{tokens} tokens cannot be sampled in {steps} blocks, one in the first")
    sampled = [0, 1]
    for step in range(2, steps + 1):
        goal = round(tokens * (1 - math.cos(math.pi * step / (2 * steps))))
        sampled.append(min(max(goal, sampled[-1] + 1), tokens - (steps - step)))
    return tuple(after - before for before, after in pairwise(sampled))


def image_order(
    seed: int, image: int, sizes: Sequence[int], grid: int, *, repulsion: float = 2.0
) -> NDArray[np.int64]:
    """Return the order of one image of a sample set, a function of the seed and its index."""
    return locality_order(sizes, grid, random.Random(f"{seed}/{image}"), repulsion=repulsion)


def locality_order(
    sizes: Sequence[int], grid: int, generator: random.Random, *, repulsion: float
) -> NDArray[np.int64]:
    """Return the cells in the order of sampling: rank -> cell.

    sizes: cells of each block, the first one 1, together the grid's. repulsion: cells of a block
    keep a Chebyshev distance above it where near cells allow that. Of two cells as near as each
    other a shuffle decides; whether sums are equal depends on the order of summation, which is
    that of sampling. Raises ValueError for sizes that do not tile the grid.
    """
    if sizes[0] != 1 or sum(sizes) != grid * grid or min(sizes) < 1:
        raise ValueError(f"blocks of {list(sizes)} do not begin with 1 and fill {grid}x{grid}")
    neighbors, windows = _neighbors(grid), _windows(grid, int(repulsion))
    proximity = [0.0] * (grid * grid)
    free = list(range(grid * grid))
    order = [generator.choice(free)]
    block = order
    for size in sizes[1:]:
        for cell in block:
            for neighbor, nearness in neighbors[cell]:
                proximity[neighbor] += nearness
        free = sorted(set(free) - set(block))
        scored = [(proximity[cell], cell) for cell in free]
        generator.shuffle(scored)
        scored.sort(key=lambda pair: -pair[0])
        block = _block(scored, size, windows, grid)
        order = order + block
    return np.array(order, dtype=np.int64)


@cache
def _neighbors(grid: int) -> list[list[tuple[int, float]]]:
    """Return each cell's neighbors, up to eight, with 1 / distance."""
    steps = [step for step in product((-1, 0, 1), repeat=2) if step != (0, 0)]
    return [
        [
            ((row + down) * grid + column + right, 1 / math.sqrt(down * down + right * right))
            for down, right in steps
            if 0 <= row + down < grid and 0 <= column + right < grid
        ]
        for row, column in product(range(grid), repeat=2)
    ]


@cache
def _windows(grid: int, reach: int) -> list[int]:
    """Return the cells within a Chebyshev distance of each cell, as bits of a number."""
    rows, columns = np.divmod(np.arange(grid * grid), grid)
    apart = np.maximum(abs(rows[:, None] - rows), abs(columns[:, None] - columns))
    return [sum(1 << int(cell) for cell in np.flatnonzero(row <= reach)) for row in apart]


def _block(
    scored: Sequence[tuple[float, int]], size: int, windows: Sequence[int], grid: int
) -> list[int]:
    """Return one block of the free cells, which come by descending proximity.

    First near cells that keep apart, then the farthest of the rest.
    """
    near = [cell for score, cell in scored if score >= NEAR]
    far = [cell for score, cell in scored if score < NEAR]
    taken: list[int] = []
    aside: list[int] = []
    blocked = 0
    for cell in near:
        if len(taken) == size:
            break
        if blocked >> cell & 1:
            aside.append(cell)
        else:
            taken.append(cell)
            blocked |= windows[cell]
    pool = far + aside + near[len(taken) + len(aside) :]
    missing = size - len(taken)
    if missing >= len(pool):
        return taken + pool
    return taken + _farthest(pool, taken, missing, grid)


def _farthest(pool: Sequence[int], taken: Sequence[int], count: int, grid: int) -> list[int]:
    """Return cells of the pool, each the farthest from those of the block before it."""
    if count == 0:
        return []
    rows, columns = np.divmod(np.array(pool), grid)

    def squared_distances(cell: int) -> NDArray[np.int64]:
        row, column = divmod(cell, grid)
        squares: NDArray[np.int64] = (rows - row) ** 2 + (columns - column) ** 2
        return squares

    nearest = np.min([squared_distances(cell) for cell in taken], axis=0)
    chosen = []
    for _ in range(count):
        chosen.append(pool[int(nearest.argmax())])
        nearest = np.minimum(nearest, squared_distances(chosen[-1]))
    return chosen
