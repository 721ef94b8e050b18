"""The Frechet distance between two sets of images: FID and, of spatial features, sFID."""

import numpy as np
import torch
from torch import Tensor

from pcb.metrics.statistics import SEED, Statistics, sums_of

CPU = torch.device("cpu")


def frechet_distance(one: Statistics, target: Statistics, device: torch.device = CPU) -> float:
    """Return the squared Frechet distance of two normal distributions (Dowson and Landau 1982).

    Its last term is the trace of the root of A B, which has the eigenvalues of the symmetric
    sqrt(B) A sqrt(B): torch-fidelity takes those of A B itself, three times as long, and less
    exactly where there are fewer images than features. The target's root is computed once.

    A GPU as `device` computes that term, float64 there too: one CPU thread would keep it waiting.
    """
    shift = one.mean - target.mean
    if device.type == "cuda":
        overlap = overlap_on(one, target, device)
    else:
        product = target.root @ one.covariance @ target.root
        overlap = np.sqrt(np.linalg.eigvalsh(product).clip(min=0)).sum()
    spread = np.trace(one.covariance) + np.trace(target.covariance)
    return float(shift @ shift + spread - 2 * overlap)


def overlap_on(one: Statistics, target: Statistics, device: torch.device) -> float:
    """Return the trace of the root of the covariances' product, computed by torch on a device."""
    root, covariance = (torch.from_numpy(part).to(device) for part in (target.root, one.covariance))
    eigenvalues = torch.linalg.eigvalsh(root @ covariance @ root)
    return float(eigenvalues.clamp(min=0).sqrt().sum())


def resampled_deviation(features: Tensor, target: Statistics, times: int) -> float:
    """Return the standard deviation of FID when images are resampled, with replacement.

    features: (n, F), on the device that computes. The target stays, as it is the same for all that
    is compared. Resampling repeats images and so raises FID itself; its spread is what counts.
    """
    random = np.random.Generator(np.random.Philox(key=[SEED, 0]))
    found = []
    for _ in range(times):
        chosen = random.integers(len(features), size=len(features))
        weights = torch.from_numpy(np.bincount(chosen, minlength=len(features)))
        again = sums_of(features, weights.to(features.device)).statistics()
        found.append(frechet_distance(again, target, features.device))
    return float(np.std(found, ddof=1))
