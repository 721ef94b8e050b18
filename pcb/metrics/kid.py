"""The kernel Inception distance: unbiased squared discrepancy of a cubic kernel, over subsets."""

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_kid import kernel_mmd

from pcb.metrics.statistics import SEED

CPU = torch.device("cpu")


def kernel_distance(
    generated: Tensor,
    reference: Tensor,
    subsets: int,
    subset_size: int,
    device: torch.device = CPU,
) -> tuple[float, float]:
    """Return mean and standard deviation over pairs of random subsets of features (n, F), (m, F).

    Subsets and kernel are torch-fidelity's; only a subset at a time is float64, and whole sets
    never are. A GPU as `device` computes the kernel: one CPU thread would keep it waiting.
    """
    random = np.random.RandomState(SEED)
    found = []
    for _ in range(subsets):
        parts = [
            points[random.choice(len(points), subset_size, replace=False)].double().to(device)
            for points in (generated, reference)
        ]
        if device.type == "cuda":
            found.append(float(discrepancy(*parts)))
        else:
            found.append(kernel_mmd(*(part.numpy() for part in parts)))
    return float(np.mean(found)), float(np.std(found))


def discrepancy(one: Tensor, other: Tensor) -> Tensor:
    """Return the unbiased squared discrepancy of two sets of equal size, (n, F) each.

    The kernel is (x y / F + 1)^3; a point is not compared with itself (Binkowski et al. 2018).
    """
    count, width = one.shape
    within = sum(
        kernel.sum() - kernel.diagonal().sum()
        for kernel in ((points @ points.T / width + 1) ** 3 for points in (one, other))
    )
    between = ((one @ other.T / width + 1) ** 3).sum()
    return within / (count * (count - 1)) - 2 * between / count**2
