"""Orders by name: each a permutation of any grid, a function of the side alone, as defined."""

import hashlib
import itertools

import numpy as np
import pytest
from scipy.stats import qmc

from pcb.order.checkerboard import checkerboard_order
from pcb.order.halton import halton_order, radical_inverse
from pcb.order.names import CHECKERBOARD, ORDER_NAMES
from pcb.order.orders import ORDERS, order_of, ranks_of
from pcb.order.regions import place_order, region_order


@pytest.mark.parametrize("name", ORDER_NAMES)
def test_every_order_draws_every_cell_of_any_grid_once(name):
    for n in (*range(1, 18), 24):
        order = order_of(name, n)
        assert order.dtype == np.int64
        assert sorted(order) == list(range(n * n))
        assert (ranks_of(name, n).ravel()[order] == np.arange(n * n)).all()


@pytest.mark.parametrize("name", ORDER_NAMES)
def test_an_order_is_a_function_of_the_side(name):
    before = order_of(name, 8)
    np.random.default_rng().random(7)
    order_of(name, 5)
    assert (order_of(name, 8) == before).all()


@pytest.mark.parametrize(
    ("name", "n", "recorded"),
    [
        ("random", 8, "e48273f5d5ba5a34ab2b6004cfaceca2e2a98eab2f7ddc31bd027e512f11670f"),
        ("random", 16, "f9747c4a2fca52952fdefe717081358c4c706e0f952bede02ffbcfcb34c45ebd"),
        ("halton", 8, "97576e4ebb858d9bedc1afeb3908e0a2138e9210ad54e29b2b5ee4daa097c891"),
        ("halton", 16, "fdb93ae080b00909f02082c0c9a8cdb1fc5c4516e9f9f67d3bb199e33edfdd62"),
        ("locality", 8, "636e6662d304499ca1ca013e424ea1e23182c5e0a30d0368a470969cca67386b"),
        ("locality", 16, "d70e7394d0020698bbcdb5766283b2a483850b6542532b933a04760f8e5c1e68"),
    ],
)
def test_an_order_stays_what_it_was(name, n, recorded):
    """A guard against a silent change, not evidence that an order is right.

    A key names the order alone, so that equal keys mean equal results as long as it stays. The
    hash is of the cells as little-endian 16-bit numbers.
    """
    assert hashlib.sha256(order_of(name, n).astype("<u2").tobytes()).hexdigest() == recorded


def test_names_for_settings_are_those_of_the_orders():
    assert tuple(ORDERS) == ORDER_NAMES
    assert (order_of(CHECKERBOARD, 8) == checkerboard_order(8)).all()
    for one, other in itertools.combinations(ORDER_NAMES, 2):
        assert (order_of(one, 8) != order_of(other, 8)).any(), (one, other)


def test_radical_inverses_are_the_published_ones():
    """The van der Corput sequences of bases 2 and 3."""
    halves = [(1, 2), (1, 4), (3, 4), (1, 8), (5, 8), (3, 8), (7, 8), (1, 16)]
    thirds = [(1, 3), (2, 3), (1, 9), (4, 9), (7, 9), (2, 9), (5, 9), (8, 9)]
    assert [radical_inverse(i, 2) for i in range(1, 9)] == halves
    assert [radical_inverse(i, 3) for i in range(1, 9)] == thirds


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_halton_meets_cells_as_scipys_sequence_does(n):
    points = qmc.Halton(d=2, scramble=False).random(20_001)[1:]
    # Thirds are no binary fractions: nothing lies within rounding of a cell's edge.
    row, column = np.floor(points * n + 1e-9).astype(int).T
    cells = list(dict.fromkeys((row * n + column).tolist()))
    assert halton_order(n).tolist() == cells


def test_regions_of_a_grid_that_cannot_be_cut_evenly_take_turns():
    assert place_order(3, 2).tolist() == [0, 2, 6, 8, 1, 7, 3, 5, 4]
    for n in (2, 4, 6, 16):
        assert (order_of("regions", n) == region_order(n, 4)).all()
