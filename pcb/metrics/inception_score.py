"""The Inception score over consecutive splits, and what the order of the images does to it.

Letters: n images, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

from pcb.metrics.statistics import SEED

LOST = 0.1
"""Fraction of the score that an order must cost before it is called sorted."""
ERRORS = 3.0
"""Standard errors by which the loss must exceed zero, since small splits vary by chance."""


def inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """Return mean and standard deviation over consecutive splits of equal size.

    logits: (n, K), in image order; without bias for ADM's protocol (method section 7).
    """
    # Split by split: probabilities of 50,000 images in float64 would fill 0.8 GB.
    scores = _scores(logits, splits)
    return float(np.mean(scores)), float(np.std(scores))


def order_warning(logits: Tensor, splits: int) -> str | None:
    """Return what to tell of an order that lowers the score, None if it does not.

    logits: (n, K), in image order. A split of a class-sorted file sees few classes, which bound its
    score; so the score is compared with that of shuffled images.
    """
    given = _scores(logits, splits)
    shuffled = _scores(logits[torch.from_numpy(_shuffle(len(logits)))], splits)
    return _warning("the order of the images", "the Inception score is", given, shuffled)


def label_warning(labels: NDArray[Any], splits: int) -> str | None:
    """Return what to tell of labels (n,) that are sorted, None if they are not."""
    given, shuffled = (_classes(order, splits) for order in (labels, labels[_shuffle(len(labels))]))
    return _warning("the order of the labels", "the classes of a split are", given, shuffled)


def _warning(
    order: str, quantity: str, given: Sequence[float], shuffled: Sequence[float]
) -> str | None:
    """Return the warning if splits of the given order have markedly less than shuffled ones.

    Markedly: by more than a tenth, and by more than three standard errors of the difference.
    """
    before, after, splits = np.mean(given), np.mean(shuffled), len(given)
    error = np.sqrt((np.var(given) + np.var(shuffled)) / splits)
    if after - before <= max(LOST * after, ERRORS * error):
        return None
    return (
        f"{order} looks sorted by class, which lowers the Inception score: {quantity} {before:.4g} "
        f"over {splits} consecutive splits, {after:.4g} over as many of shuffled images (apart by "
        f"more than {LOST:.0%} and {ERRORS:g} standard errors); shuffle them and measure again"
    )


def _scores(logits: Tensor, splits: int) -> list[float]:
    """Return each split's score."""
    return [
        isc_features_to_metric(part, splits=1, shuffle=False)[KEY_METRIC_ISC_MEAN]
        for part in logits.split(len(logits) // splits)
    ]


def _classes(labels: NDArray[Any], splits: int) -> list[float]:
    """Return the number of classes in each consecutive split."""
    return [float(len(np.unique(part))) for part in np.array_split(labels, splits)]


def _shuffle(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(SEED).permutation(count)
