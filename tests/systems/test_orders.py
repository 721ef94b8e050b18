"""The orders of the systems: known small grids, second implementations, randomness."""

import numpy as np
import pytest

from pcb.order.diagonals import diagonal_blocks, diagonal_order
from pcb.order.random import cosine_blocks, random_orders
from pcb.order.raster import raster_blocks, raster_order
from pcb.order.regions import region_blocks, region_order
from pcb.sample.uniforms import uniforms


def permutation(order, n):
    return order.dtype == np.int64 and sorted(order) == list(range(n * n))


@pytest.mark.parametrize("n", [1, 2, 6, 9])
def test_every_fixed_order_draws_every_cell_once(n):
    orders = [raster_order(n), diagonal_order(n)]
    orders += [region_order(n, r) for r in (1, 4, 9) if n % int(r**0.5) == 0]
    assert all(permutation(order, n) for order in orders)
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


def test_cosine_blocks_are_the_published_ones():
    later = (
        "2,2,2,2,2,2,3,2,3,2,3,3,2,3,3,3,3,3,3,3,4,3,3,4,3,4,3,4,4,3,4,4,4,4,4,4,4,4,4,4,4,5,4,4,"
        "4,5,4,4,5,4,5,4,5,4,5,4,5,4,5,4,5,4,5,4"
    )
    assert cosine_blocks(256, 88) == (1,) * 24 + tuple(map(int, later.split(",")))


@pytest.mark.parametrize("tokens", [1, 2, 36, 256])
@pytest.mark.parametrize("steps", [None, 1, 3, 12, 1000])
def test_cosine_blocks_draw_every_token(tokens, steps):
    sizes = cosine_blocks(tokens, steps)
    assert sum(sizes) == tokens
    assert sizes[0] == 1
    assert min(sizes) > 0
    if steps is None or steps >= 1000:
        assert max(sizes) == 1


def test_an_image_has_its_own_order_whatever_its_batch():
    images = np.array([7, 0, 1_000_000])
    orders = random_orders(4, 3, images)
    assert all(permutation(order, 4) for order in orders)
    assert len(np.unique(orders, axis=0)) == 3
    for image, order in zip(images, orders, strict=True):
        assert (random_orders(4, 3, np.array([image]))[0] == order).all()
    assert (random_orders(4, 4, images) != orders).any(axis=1).all()
    assert random_orders(4, 3, images[:0]).shape == (0, 16)


def test_recorded_orders_stay_what_they_are():
    # Samples that were drawn with them are resumed with them.
    assert random_orders(4, 0, np.array([0, 1])).tolist() == [
        [2, 15, 12, 10, 1, 14, 4, 6, 8, 7, 5, 11, 13, 9, 3, 0],
        [11, 0, 8, 14, 10, 1, 3, 15, 2, 6, 5, 13, 7, 4, 9, 12],
    ]


def test_every_order_is_as_likely_as_any_other():
    images = 4800
    orders = random_orders(2, 0, np.arange(images))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    # Chi-square with 23 degrees of freedom: above 49.7 once in a thousand times.
    assert ((counts - images / 24) ** 2 / (images / 24)).sum() < 49.7


def test_orders_have_nothing_to_do_with_what_is_drawn():
    images = np.arange(2000)
    ranks = np.argsort(random_orders(4, 5, images), axis=1).ravel()
    numbers = uniforms(5, images, (4,)).ravel()
    # Standard deviation of the correlation of 32,000 independent pairs: 0.0056.
    assert abs(np.corrcoef(ranks, numbers)[0, 1]) < 0.02
