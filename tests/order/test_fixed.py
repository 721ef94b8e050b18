"""Raster, regions and anti-diagonals: known small grids, second implementations."""

import numpy as np
import pytest

from pcb.order.diagonals import diagonal_blocks, diagonal_order
from pcb.order.raster import raster_blocks, raster_order
from pcb.order.regions import region_blocks, region_order


@pytest.mark.parametrize("n", [1, 2, 6, 9])
def test_every_fixed_order_draws_every_cell_once(n):
    orders = [raster_order(n), diagonal_order(n)]
    orders += [region_order(n, r) for r in (1, 4, 9) if n % int(r**0.5) == 0]
    for order in orders:
        assert order.dtype == np.int64 and sorted(order) == list(range(n * n))
    assert sum(raster_blocks(n)) == sum(diagonal_blocks(n)) == n * n


def test_regions_take_turns():
    assert region_order(4, 4).tolist() == [
        0, 2, 8, 10,
        1, 3, 9, 11,
        4, 6, 12, 14,
        5, 7, 13, 15,
    ]  # fmt: skip
    assert region_order(4, 1).tolist() == list(range(16))
    assert region_blocks(4, 4) == (1, 1, 1, 1, 4, 4, 4)
    assert region_blocks(4, 1) == (1,) * 16
    assert len(region_blocks(24, 4)) == 147


def test_regions_by_their_formula():
    n, side = 6, 3
    expected = [
        (R * n // side + a) * n + S * n // side + b
        for a in range(n // side)
        for b in range(n // side)
        for R in range(side)
        for S in range(side)
    ]
    assert region_order(n, 9).tolist() == expected


@pytest.mark.parametrize(("n", "regions"), [(4, 2), (4, 9), (5, 4), (4, 0), (4, -4)])
def test_a_grid_that_cannot_be_cut_is_refused(n, regions):
    with pytest.raises(ValueError, match=f"{n} x {n} cells cannot be cut into {regions} "):
        region_order(n, regions)


def test_diagonals_go_down_to_the_right():
    assert diagonal_order(3).tolist() == [0, 1, 3, 2, 4, 6, 5, 7, 8]
    assert diagonal_blocks(3) == (1, 2, 3, 2, 1)
    assert len(diagonal_blocks(16)) == 31
    cells = iter(diagonal_order(7))
    for diagonal, size in enumerate(diagonal_blocks(7)):
        block = [divmod(next(cells), 7) for _ in range(size)]
        assert block == sorted(block)
        assert {i + j for i, j in block} == {diagonal}
