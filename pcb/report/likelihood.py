"""Likelihood of held-out images under a schedule, as the report reads it, with paired errors.

Letters: N held-out images, S scales, R trainings (repetitions with another seed).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Held-out images that are not independent: several were cut from one place of one picture.

    classes_N: the class of each image; classes are fixed, not chosen by chance. places_N: int64,
    equal for images of one place.
    """

    classes_N: NDArray[np.int64]
    places_N: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Nats:
    """Negative log-likelihood of the same images under a schedule and at one token per block.

    nats_NS, serial_NS: nats of every scale of each image. sizes: sides of the scales.
    places: where images are from that are not independent. The *price* of parallel sampling is the
    difference. Errors are of the mean over images, the same ones everywhere: those of a difference
    are of paired images.
    """

    nats_NS: Array
    serial_NS: Array
    sizes: tuple[int, ...]
    places: Places | None = None

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
        return standard_error(self.totals_N, self.places)

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
        """Nats per image that parallel sampling costs."""
        return float(self.prices_NS.sum(1).mean())

    @property
    def price_se(self) -> float:
        """Its standard error."""
        return standard_error(self.prices_NS.sum(1), self.places)

    @property
    def scale_prices(self) -> tuple[float, ...]:
        """The price, scale by scale."""
        return tuple(self.prices_NS.mean(0).tolist())

    @property
    def scale_errors(self) -> tuple[float, ...]:
        """Standard errors of these."""
        return tuple(standard_error(column, self.places) for column in self.prices_NS.T)

    def fraction_of_serial(self, values_N: Array) -> Array:
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


def standard_error(values_N: Array, places: Places | None = None) -> float:
    """Return the standard error of a mean; 0 of a single value, which says nothing of others.

    Images of one place count together: the error is that of a sample of places, class by class
    (stratified, clustered by place). A class of one place says nothing of others.
    """
    if places is None:
        if len(values_N) < 2:
            return 0.0
        return float(values_N.std(ddof=1) / math.sqrt(len(values_N)))
    squares = 0.0
    for label in np.unique(places.classes_N):
        own = places.classes_N == label
        apart = values_N[own] - values_N[own].mean()
        _, place = np.unique(places.places_N[own], return_inverse=True)
        sums = np.bincount(place, weights=apart)
        if len(sums) > 1:
            squares += len(sums) / (len(sums) - 1) * float((sums**2).sum())
    return math.sqrt(squares) / len(values_N)


def over_trainings(values_RN: Sequence[Array]) -> float:
    """Return the standard error that trainings give a mean over them; 0 if there is one."""
    if len(values_RN) < 2:
        return 0.0
    means_R = [float(values_N.mean()) for values_N in values_RN]
    return float(np.std(means_R, ddof=1) / math.sqrt(len(means_R)))


def mean_with_error(
    values_RN: Sequence[Array], places: Places | None = None
) -> tuple[float, float]:
    """Return the mean over trainings and images, and its error by both.

    All trainings have the same images: their error is that of the mean over trainings.
    """
    mean_N = np.mean(values_RN, axis=0)
    error = math.hypot(standard_error(mean_N, places), over_trainings(values_RN))
    return float(mean_N.mean()), error


def worth(measured: Sequence[Nats]) -> str:
    """Say in a sentence what a nat is worth here; empty if nothing was measured."""
    return worth_of([(nats.tokens, nats.serial) for nats in measured])


def worth_of(images: Sequence[tuple[int, float]]) -> str:
    """Say it of images of so many tokens and so many nats, sampled token by token."""
    if not images:
        return ""
    bits = [1 / tokens / math.log(2) for tokens, _ in images]
    totals = [nats for _, nats in images]
    parts = [100 / nats for nats in totals]
    return (
        f"A nat per image is {_range(bits, 3)} bits per token here, and {_range(parts, 1)} % of "
        f"the {_range(totals, 0)} nats of an image that is sampled token by token."
    )


def _range(values: Sequence[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"
