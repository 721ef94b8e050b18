"""Orders of a square grid's cells by name, of the paper's own model and of the other systems.

A model may have any of them in the place of the checkerboard: blocks are then runs of that order,
and everything else stays. Orders that another system draws anew for every image, random and
locality, are for a model one fixed order of each side: that of seed 0 and image 0.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pcb.order.checkerboard import checkerboard_order
from pcb.order.diagonals import diagonal_order
from pcb.order.halton import halton_order
from pcb.order.locality import group_sizes, image_order
from pcb.order.random import random_orders
from pcb.order.raster import raster_order
from pcb.order.regions import place_order

REGIONS_A_SIDE = 2
"""PAR-4x cuts the grid into two by two regions."""


def _random(n: int, seed: int, image: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = random_orders(n, seed, np.array([image]))[0]
    return order


def _locality(n: int, seed: int, image: int) -> NDArray[np.int64]:
    """As many blocks as the published 20 are for 16 x 16 cells."""
    return image_order(seed, image, group_sizes(n * n, max(1, n + n // 4)), n)


ORDERS: dict[str, Callable[[int, int, int], NDArray[np.int64]]] = {
    "checkerboard": lambda n, _seed, _image: checkerboard_order(n),
    "raster": lambda n, _seed, _image: raster_order(n),
    "random": _random,
    "halton": lambda n, _seed, _image: halton_order(n),
    "regions": lambda n, _seed, _image: place_order(n, -(-n // REGIONS_A_SIDE)),
    "diagonals": lambda n, _seed, _image: diagonal_order(n),
    "locality": _locality,
}
"""Side, seed and image's index to the row-major cells, first to last.

Seed and index matter to `random` and `locality` alone. Every order has grids of any side; the keys
are `pcb.order.names.ORDER_NAMES`.
"""


def order_of(name: str, n: int) -> NDArray[np.int64]:
    """Return the n*n row-major cell indices in a model's sampling order, a function of n alone."""
    return ORDERS[name](n, 0, 0)


def ranks_of(name: str, n: int, seed: int = 0, image: int = 0) -> NDArray[np.int64]:
    """Return the n x n grid of ranks of an order: 0 is sampled first, n*n - 1 last."""
    return np.argsort(ORDERS[name](n, seed, image)).reshape(n, n)
