"""The progressive checkerboard against the method's grids, its own recursion, and its balance."""

import numpy as np
import pytest

from pcb.order.checkerboard import checkerboard_order, progressive_checkerboard

GRID_4 = """
 0  8  2 10
12  4 14  6
 3 11  1  9
15  7 13  5
"""
GRID_5 = """
 0 13  5 16  2
19  9 22 11 20
 7 18  4 15  8
23 12 21 10 24
 3 14  6 17  1
"""


def grid(text):
    return np.array([[int(x) for x in line.split()] for line in text.strip().splitlines()])


def brute_force_order(n):
    """Cells in sampling order by the definition: order the quadrants, interleave their lists."""
    if n == 1:
        return [(0, 0)]
    half = n // 2
    inner = brute_force_order(half)
    corners = [(0, 0), (half, half), (0, half), (half, 0)]
    return [(r + dr, c + dc) for r, c in inner for dr, dc in corners]


@pytest.mark.parametrize("text", [GRID_4, GRID_5])
def test_published_grids(text):
    expected = grid(text)
    ranks = progressive_checkerboard(len(expected))
    assert ranks.dtype == np.int64
    np.testing.assert_array_equal(ranks, expected)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 8, 11, 16, 24, 64])
def test_equals_brute_force_cropped_and_ranked_again(n):
    power = 1 << (n - 1).bit_length()
    cells = [(r, c) for r, c in brute_force_order(power) if r < n and c < n]
    expected = np.empty((n, n), dtype=np.int64)
    for rank, cell in enumerate(cells):
        expected[cell] = rank
    np.testing.assert_array_equal(progressive_checkerboard(n), expected)


@pytest.mark.parametrize("n", range(1, 34))
def test_is_a_permutation_and_starts_top_left(n):
    ranks = progressive_checkerboard(n)
    assert sorted(ranks.ravel()) == list(range(n * n))
    assert ranks[0, 0] == 0


@pytest.mark.parametrize("n", [2, 4, 8, 16, 32])
def test_every_prefix_is_balanced_at_every_quadtree_level(n):
    ranks = progressive_checkerboard(n)
    sampled = np.arange(1, n * n + 1)[:, None, None] > ranks[None]
    side = n
    while side > 1:
        half = side // 2
        counts = sampled.reshape(n * n, n // half, half, n // half, half).sum((2, 4))
        siblings = counts.reshape(n * n, n // side, 2, n // side, 2)
        spread = siblings.max((2, 4)) - siblings.min((2, 4))
        assert spread.max() <= 1, f"unbalanced at quadrants of side {half}"
        side = half


def test_checkerboard_order_inverts_the_ranks():
    order = checkerboard_order(7)
    np.testing.assert_array_equal(progressive_checkerboard(7).ravel()[order], np.arange(49))


@pytest.mark.parametrize("n", [0, -1])
def test_refuses_an_empty_grid(n):
    with pytest.raises(ValueError, match="at least one cell"):
        progressive_checkerboard(n)
