"""What samples are compared with: features of the reference images, and statistics.

In a folder: ``reference_features.npy`` (m, F) float32 and ``reference_statistics.npz``, whose names
are ADM's: `mu`, `sigma` of pool features and, where the extractor has spatial ones, `mu_s`,
`sigma_s`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcb.data.arrays import save_array, save_arrays
from pcb.errors import UserError
from pcb.metrics.statistics import Statistics

FEATURES = "reference_features.npy"
STATISTICS = "reference_statistics.npz"
_NAMES = ("mu", "sigma")
_SPATIAL_NAMES = ("mu_s", "sigma_s")


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
    """Write both files."""
    arrays = dict(zip(_NAMES, (target.pool.mean, target.pool.covariance), strict=True))
    if target.spatial is not None:
        own = (target.spatial.mean, target.spatial.covariance)
        arrays |= dict(zip(_SPATIAL_NAMES, own, strict=True))
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
    with np.load(path, allow_pickle=False) as file:
        if not set(_NAMES) <= set(file.files):
            raise UserError(
                f"{path}: holds {', '.join(file.files)} but not {' and '.join(_NAMES)}, the "
                "statistics that FID compares with"
            )
        pool = Statistics(*(file[name].astype(np.float64) for name in _NAMES))
        spatial = None
        if set(_SPATIAL_NAMES) <= set(file.files):
            spatial = Statistics(*(file[name].astype(np.float64) for name in _SPATIAL_NAMES))
    for found in (pool, spatial):
        if found is not None and found.covariance.shape != (len(found.mean),) * 2:
            raise UserError(
                f"{path}: a covariance of shape {list(found.covariance.shape)} beside a mean of "
                f"{len(found.mean)} numbers; fetch it again"
            )
    return pool, spatial
