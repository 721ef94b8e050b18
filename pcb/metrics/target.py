"""Reference features and statistics that samples are compared with, and their files.

In a folder: ``reference_features.npy`` (m, F) float32 and ``reference_statistics.npz``, whose names
are ADM's: `mu`, `sigma` of pool features and, where the extractor has spatial ones, `mu_s`,
`sigma_s`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.data.arrays import save_array, save_arrays
from pcb.errors import UserError
from pcb.metrics.statistics import Statistics
from pcb.runtime.npz import npz_errors_explained
from pcb.runtime.weights import check_finite

FEATURES = "reference_features.npy"
STATISTICS = "reference_statistics.npz"
_NAMES = ("mu", "sigma")
_SPATIAL_NAMES = ("mu_s", "sigma_s")
_SYMMETRY = 1e-5
"""Most that a covariance may differ from its transpose, of its largest entry: float32's rounding.
"""


@dataclass(frozen=True)
class Target:
    """The reference as an extractor sees it."""

    features: Tensor
    """(m, F) float32 pool features of the reference images: KID, precision and recall."""
    pool: Statistics
    """Of pool features, for FID; ADM's are those of all training images, not of the m."""
    spatial: Statistics | None = None
    """Of spatial features, for sFID."""


def save_target(folder: Path, target: Target) -> None:
    """Write both files. Raises UserError for numbers that are not finite."""
    arrays = dict(zip(_NAMES, (target.pool.mean, target.pool.covariance), strict=True))
    if target.spatial is not None:
        own = (target.spatial.mean, target.spatial.covariance)
        arrays |= dict(zip(_SPATIAL_NAMES, own, strict=True))
    check_finite(arrays, str(folder / STATISTICS))
    save_arrays(folder / STATISTICS, arrays)
    save_array(folder / FEATURES, target.features.numpy())


def load_target(folder: Path) -> Target:
    """Read both files of a folder that `save_target` filled."""
    pool, spatial = read_statistics(folder / STATISTICS)
    return Target(torch.from_numpy(np.load(folder / FEATURES)), pool, spatial)


def read_statistics(path: Path) -> tuple[Statistics, Statistics | None]:
    """Return statistics of pool and, if there are any, of spatial features, of ADM's or own .npz.

    Raises UserError naming the file if they are missing or of the wrong shape.
    """
    with npz_errors_explained(path), np.load(path, allow_pickle=False) as file:
        if not set(_NAMES) <= set(file.files):
            raise UserError(
                f"{path}: holds {', '.join(file.files)} but not {' and '.join(_NAMES)}, the "
                "statistics that FID compares with"
            )
        pool = _statistics(path, file, _NAMES)
        spatial = None
        if set(_SPATIAL_NAMES) <= set(file.files):
            spatial = _statistics(path, file, _SPATIAL_NAMES)
    return pool, spatial


def _statistics(path: Path, file: Mapping[str, NDArray[Any]], names: tuple[str, str]) -> Statistics:
    """Return a mean and covariance of these names, checked to be such."""
    arrays = {name: file[name] for name in names}
    if any(array.dtype.kind != "f" for array in arrays.values()):
        kinds = " and ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise UserError(f"{path}: {kinds} where floating numbers are expected; fetch it again")
    check_finite(arrays, str(path))
    mean, covariance = (array.astype(np.float64) for array in arrays.values())
    if mean.ndim != 1 or covariance.shape != (len(mean),) * 2:
        raise UserError(
            f"{path}: a covariance of shape {list(covariance.shape)} beside a mean of shape "
            f"{list(mean.shape)} in {' and '.join(names)}; fetch it again"
        )
    largest = np.abs(covariance).max(initial=0)
    skew = np.abs(covariance - covariance.T).max(initial=0)
    if skew > _SYMMETRY * largest or covariance.diagonal().min(initial=0) < 0:
        raise UserError(
            f"{path}: {names[1]} is no covariance (not symmetric, or a variance below 0); fetch it "
            "again"
        )
    return Statistics(mean, covariance)
