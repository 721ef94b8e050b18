"""Mean and covariance of features, from sums that are added up as the features come.

Sums are float64, and those of two disjoint sets of images add up to those of both: shards may be
summed anywhere and merged in their order.

Letters: n images, F features.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SEED = 2020
"""Of what scores draw at random; torch-fidelity's own, so that KID's subsets are the same."""
ROWS = 5000
"""Features turned into float64 at a time; 50,000 of 2048 would fill 0.8 GB."""


@dataclass(frozen=True)
class Statistics:
    """Mean (F,) and unbiased covariance (F, F): what a Frechet distance knows of a set."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """The symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


@dataclass(frozen=True)
class Sums:
    """Number of images, sum of x (F,) and sum of x x^T (F, F), float64."""

    count: float
    total: Tensor
    products: Tensor

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums of both sets of images."""
        return Sums(
            self.count + other.count, self.total + other.total, self.products + other.products
        )

    def cpu(self) -> "Sums":
        """Return the same on the CPU."""
        return Sums(self.count, self.total.cpu(), self.products.cpu())

    def statistics(self) -> Statistics:
        """Return mean and covariance; the latter is not a number for a single image."""
        mean = self.total / self.count
        scatter = self.products - self.count * torch.outer(mean, mean)
        covariance = scatter / (self.count - 1)
        return Statistics(mean.cpu().numpy(), covariance.cpu().numpy())


def sums_of(features: Tensor, weights: Tensor | None = None) -> Sums:
    """Return the sums of features (n, F), on their device.

    `weights` (n,) count an image several times, or not at all: what drawing with replacement does.
    """
    width, device = features.shape[1], features.device
    count = float(len(features) if weights is None else weights.sum())
    total = torch.zeros(width, dtype=torch.float64, device=device)
    products = torch.zeros(width, width, dtype=torch.float64, device=device)
    for start in range(0, len(features), ROWS):
        part = features[start : start + ROWS].double()
        weighted = part
        if weights is not None:
            weighted = part * weights[start : start + ROWS, None].to(part)
        total += weighted.sum(0)
        products += weighted.T @ part
    return Sums(count, total, products)


def statistics_of(features: Tensor) -> Statistics:
    """Return mean and covariance of features (n, F)."""
    return sums_of(features).statistics()
