"""Precision and recall by k nearest neighbors (Kynkäänniemi et al. 2019), in bounded memory.

A set's manifold is the union of balls around its points, each as wide as the distance to the
point's k-th nearest neighbor. Precision is the fraction of generated points inside the reference's
manifold, recall the fraction of reference points inside the generated ones'.

Distances are float64: with float32 matrix products, rounding would decide whether a point at the
border is inside. torch-fidelity's own keeps distances on the CPU.
"""

import torch
from torch import Tensor

ROWS = 1000
"""Rows of distances in memory at a time; all of 50,000 images would fill 20 GB."""


def precision_recall(generated: Tensor, reference: Tensor, nearest: int) -> tuple[float, float]:
    """Return precision and recall of features (n, F) against (m, F), on their device."""
    generated, reference = generated.double(), reference.double()
    precision = _fraction_inside(generated, reference, _radii(reference, nearest))
    recall = _fraction_inside(reference, generated, _radii(generated, nearest))
    return precision, recall


def _radii(points: Tensor, nearest: int) -> Tensor:
    """Return each point's distance to its k-th nearest neighbor, itself not counted."""
    found = [
        torch.cdist(part, points).topk(nearest + 1, largest=False).values[:, -1]
        for part in points.split(ROWS)
    ]
    return torch.cat(found)


def _fraction_inside(points: Tensor, manifold: Tensor, radii: Tensor) -> float:
    """Return the fraction of points that lie within some ball of the manifold."""
    inside = [(torch.cdist(part, manifold) <= radii).any(1) for part in points.split(ROWS)]
    return float(torch.cat(inside).double().mean())
