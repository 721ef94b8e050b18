"""Random orders: randomness, one for each image, and the blocks that they are cut into."""

import numpy as np
import pytest

from pcb.order.random import cosine_blocks, random_orders
from pcb.sample.uniforms import uniforms


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
    assert orders.dtype == np.int64
    assert (np.sort(orders) == np.arange(16)).all()
    assert len(np.unique(orders, axis=0)) == 3
    for image, order in zip(images, orders, strict=True):
        assert (random_orders(4, 3, np.array([image]))[0] == order).all()
    assert (random_orders(4, 4, images) != orders).any(axis=1).all()
    assert random_orders(4, 3, images[:0]).shape == (0, 16)


def test_recorded_orders_stay_what_they_are():
    # Samples that were sampled with them are resumed with them.
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


def test_orders_have_nothing_to_do_with_what_is_sampled():
    images = np.arange(2000)
    ranks = np.argsort(random_orders(4, 5, images), axis=1).ravel()
    numbers = uniforms(5, images, (4,)).ravel()
    # Standard deviation of the correlation of 32,000 independent pairs: 0.0056.
    assert abs(np.corrcoef(ranks, numbers)[0, 1]) < 0.02
