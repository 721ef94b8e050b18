"""The kernel Inception distance: unbiased squared discrepancy of a cubic kernel, over subsets."""

import numpy as np
from torch import Tensor
from torch_fidelity.metric_kid import kernel_mmd

SEED = 2020
"""torch-fidelity's own, so that the same subsets are drawn."""


def kernel_distance(
    generated: Tensor, reference: Tensor, subsets: int, subset_size: int
) -> tuple[float, float]:
    """Return mean and standard deviation over pairs of random subsets of features (n, F), (m, F).

    Subsets and kernel are torch-fidelity's; only a subset at a time is float64, and whole sets
    never are.
    """
    random = np.random.RandomState(SEED)
    found = []
    for _ in range(subsets):
        parts = [
            points[random.choice(len(points), subset_size, replace=False)].double().cpu().numpy()
            for points in (generated, reference)
        ]
        found.append(kernel_mmd(*parts))
    return float(np.mean(found)), float(np.std(found))
