"""All scores of one set of images, from what an extractor saw of them (method section 7).

Both extractors are scored by the same functions. Generated images are torch-fidelity's input 1.
"""

import math

import torch
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_isc import (
    KEY_METRIC_ISC_MEAN,
    KEY_METRIC_ISC_STD,
    isc_features_to_metric,
)
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from pcb.config import Metrics
from pcb.errors import UserError
from pcb.metrics.features import Features
from pcb.metrics.frechet import frechet_distance, resampled_deviation
from pcb.metrics.inception_score import inception_score
from pcb.metrics.kid import kernel_distance
from pcb.metrics.precision_recall import precision_recall
from pcb.metrics.statistics import statistics_of
from pcb.metrics.target import Target

_ISC_SPLITS = 10
"""torch-fidelity's default."""


def scores(
    features: Features, target: Target, settings: Metrics, device: torch.device
) -> dict[str, float]:
    """Return FID, IS, precision, recall and KID; sFID where there are spatial features.

    Those of torch-fidelity itself stand beside them as `torch_fidelity_*` if the settings ask.

    Raises ValueError if a metric is not defined for so few images, UserError for one that is not
    finite.
    """
    settings.check_counts(len(features.pool), len(target.features))
    generated, reference = features.pool.to(device), target.features.to(device)
    score, score_std = inception_score(features.logits, settings.splits)
    precision, recall = precision_recall(generated, reference, settings.nearest)
    kid, kid_std = kernel_distance(
        features.pool, target.features, settings.kid_subsets, settings.kid_subset_size, device
    )
    found = {
        "fid": frechet_distance(statistics_of(generated), target.pool, device),
        "fid_std": resampled_deviation(generated, target.pool, settings.bootstrap),
        "is": score,
        "is_std": score_std,
        "precision": precision,
        "recall": recall,
        "kid": kid,
        "kid_std": kid_std,
    }
    if features.spatial is not None and target.spatial is not None:
        found["sfid"] = frechet_distance(features.spatial.statistics(), target.spatial, device)
    if settings.torch_fidelity:
        own = torch_fidelity_scores(features, target, settings, device)
        found |= {f"torch_fidelity_{name}": value for name, value in own.items()}
    wrong = [name for name, value in found.items() if not math.isfinite(value)]
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: not finite, so no result; look at the images and at the model's "
            "training log"
        )
    return found


def torch_fidelity_scores(
    features: Features, target: Target, settings: Metrics, device: torch.device
) -> dict[str, float]:
    """Return what torch-fidelity's functions make of the same features, with its defaults.

    That is what its `calculate_metrics` prints for these pool features, but that FID compares with
    the target's statistics. Its Inception score shuffles the images, in ten splits; of fewer images
    there is none.
    """
    isc: dict[str, float] = {}
    if len(features.logits) >= _ISC_SPLITS:
        found = isc_features_to_metric(features.logits)
        isc = {"is": found[KEY_METRIC_ISC_MEAN], "is_std": found[KEY_METRIC_ISC_STD]}
    kid = kid_features_to_metric(
        features.pool,
        target.features,
        kid_subset_size=settings.kid_subset_size,
        verbose=False,
    )
    prc = prc_features_to_metric(
        features.pool.to(device), target.features.to(device), save_cpu_ram=True, verbose=False
    )
    # It insists on equal types; means of float32 features would be float32.
    own = fid_features_to_statistics(features.pool.double())
    theirs = {"mu": target.pool.mean, "sigma": target.pool.covariance}
    return {
        "fid": fid_statistics_to_metric(own, theirs, verbose=False)[KEY_METRIC_FID],
        **isc,
        "precision": prc[KEY_METRIC_PRECISION],
        "recall": prc[KEY_METRIC_RECALL],
        "kid": kid[KEY_METRIC_KID_MEAN],
        "kid_std": kid[KEY_METRIC_KID_STD],
    }
