"""Likelihood of held-out images under a schedule, as the report reads it, with paired errors.

Letters: N held-out images, S scales.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Nats:
    """Negative log-likelihood of the same images under a schedule and at one token per block.

    nats_NS, serial_NS: nats of every scale of each image. sizes: sides of the scales.
    The *price* of sampling in parallel is the difference. Errors are of the mean over images, the
    same ones everywhere: those of a difference are of paired images.
    """

    nats_NS: Array
    serial_NS: Array
    sizes: tuple[int, ...]

    @property
    def images(self) -> int:
        """Number of held-out images."""
        return len(self.nats_NS)

    @property
    def tokens(self) -> int:
        """Tokens of an image, over all scales."""
        return sum(size * size for size in self.sizes)

    @cached_property
    def totals_N(self) -> Array:
        """Nats of each image."""
        return np.asarray(self.nats_NS.sum(1))

    @cached_property
    def prices_NS(self) -> Array:
        """Nats that each scale of each image pays for being sampled in parallel."""
        return self.nats_NS - self.serial_NS

    @property
    def nll(self) -> float:
        """Nats per image."""
        return float(self.totals_N.mean())

    @property
    def nll_se(self) -> float:
        """Its standard error."""
        return standard_error(self.totals_N)

    @property
    def bits_per_token(self) -> float:
        """The same in bits, shared out over the tokens."""
        return self.nll / self.tokens / math.log(2)

    @property
    def serial(self) -> float:
        """Nats per image at one token per block."""
        return float(self.serial_NS.sum(1).mean())

    @property
    def price(self) -> float:
        """Nats per image that sampling in parallel costs."""
        return float(self.prices_NS.sum(1).mean())

    @property
    def price_se(self) -> float:
        """Its standard error."""
        return standard_error(self.prices_NS.sum(1))

    @property
    def scale_prices(self) -> tuple[float, ...]:
        """The price, scale by scale."""
        return tuple(self.prices_NS.mean(0).tolist())

    @property
    def scale_errors(self) -> tuple[float, ...]:
        """Standard errors of these."""
        return tuple(standard_error(column) for column in self.prices_NS.T)

    def share_of_serial(self, values_N: Array) -> Array:
        """Return nats of each image as fractions of the mean at one token per block."""
        return values_N / self.serial


COLUMNS: dict[str, Callable[[Nats], float | tuple[float, ...]]] = {
    "nll": lambda nats: nats.nll,
    "nll_se": lambda nats: nats.nll_se,
    "bits_per_token": lambda nats: nats.bits_per_token,
    "nll_per_scale": lambda nats: tuple(nats.nats_NS.mean(0).tolist()),
    "price": lambda nats: nats.price,
    "price_se": lambda nats: nats.price_se,
    "price_per_scale": lambda nats: nats.scale_prices,
}
"""Columns of `metrics.csv`, in nats per image but for the bits."""


def standard_error(values_N: Array) -> float:
    """Return the standard error of a mean; 0 of a single value, which says nothing of others."""
    if len(values_N) < 2:
        return 0.0
    return float(values_N.std(ddof=1) / math.sqrt(len(values_N)))
