"""Orders of a square grid's cells by name, of the paper's own model and of the other systems."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pcb.order.checkerboard import drawing_order
from pcb.order.diagonals import diagonal_order
from pcb.order.locality import group_sizes, image_order
from pcb.order.random import random_orders
from pcb.order.raster import raster_order
from pcb.order.regions import region_order

REGIONS = 4
"""PAR-4x cuts the grid into so many."""


def _random(n: int, seed: int, image: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = random_orders(n, seed, np.array([image]))[0]
    return order


def _locality(n: int, seed: int, image: int) -> NDArray[np.int64]:
    """As many blocks as the published 20 are for 16 x 16 cells."""
    return image_order(seed, image, group_sizes(n * n, max(1, n + n // 4)), n)


ORDERS: dict[str, Callable[[int, int, int], NDArray[np.int64]]] = {
    "checkerboard": lambda n, _seed, _image: drawing_order(n),
    "raster": lambda n, _seed, _image: raster_order(n),
    "random": _random,
    "regions": lambda n, _seed, _image: region_order(n, REGIONS),
    "diagonals": lambda n, _seed, _image: diagonal_order(n),
    "locality": _locality,
}
"""Side, seed and image's index to the row-major cells, first to last.

Seed and index matter to `random` and `locality` alone. Raises ValueError for a side that the order
does not have.
"""


def ranks_of(name: str, n: int, seed: int = 0, image: int = 0) -> NDArray[np.int64]:
    """Return the n x n grid of ranks of an order. Raises ValueError as `ORDERS` says."""
    return np.argsort(ORDERS[name](n, seed, image)).reshape(n, n)
