"""The miniature's metrics, computed by torch-fidelity from the classifier's features.

The classifier is registered with torch-fidelity as a feature extractor, so that its command line
and `calculate_metrics` know it too; here its functions on features are called, so that one pass
over the images serves every metric. Generated images are torch-fidelity's input 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
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
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from pcb.metrics.classifier import load_classifier
from pcb.settings import Metrics

EXTRACTOR = "pcb-classifier"
SEED = 2020
"""torch-fidelity's own, of KID's subsets."""
DISTANCE_ROWS = 1000
"""Rows of distances in memory at a time; 50,000 images would fill 20 GB."""

Statistics = Mapping[str, NDArray[np.float64]]
"""Mean `mu` (F,) and covariance `sigma` (F, F)."""


class ClassifierFeatures(FeatureExtractorBase):
    """A trained classifier as torch-fidelity's feature extractor: `features` and `logits`."""

    LAYERS: ClassVar = {"isc": "logits", "fid": "features", "kid": "features", "prc": "features"}

    def __init__(self, name: str, features_list: list[str], **settings: Any) -> None:
        """`feature_extractor_weights_path` is the folder of the stage `reference`."""
        super().__init__(name, features_list)
        self.classifier = load_classifier(Path(settings["feature_extractor_weights_path"]))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the names of the layers."""
        return ("features", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Return the layer that a metric reads."""
        return ClassifierFeatures.LAYERS[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """Return False: on small images compiling costs more than it saves."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Return an image batch of the right form."""
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    def forward(self, pixels_B3HW: Tensor) -> tuple[Tensor, ...]:
        """Return the requested layers, in the order in which they were requested."""
        features, logits = self.classifier(pixels_B3HW)
        layers = {"features": features, "logits": logits}
        return tuple(layers[name] for name in self.features_list)


def register_classifier() -> None:
    """Make the classifier known to torch-fidelity as `pcb-classifier`; twice does no harm."""
    if EXTRACTOR not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(EXTRACTOR, ClassifierFeatures)


def scores(
    generated: Tensor, logits: Tensor, reference: Tensor, settings: Metrics
) -> dict[str, float]:
    """Return FID, IS, KID, precision and recall of generated features against the reference's.

    generated, reference: float (n, F) features; logits: (n, K) of the generated images, in image
    order: the splits of the Inception score are consecutive.

    Raises ValueError if a metric is not defined for so few images.
    """
    settings.check_counts(len(generated), len(reference))
    # float32 distances and kernels would carry the rounding of whoever multiplied the matrices.
    generated, reference = generated.double(), reference.double()
    isc = isc_features_to_metric(logits, settings.splits, shuffle=False)
    kid = kid_features_to_metric(
        generated,
        reference,
        kid_subsets=settings.kid_subsets,
        kid_subset_size=settings.kid_subset_size,
        rng_seed=SEED,
        verbose=False,
    )
    prc = prc_features_to_metric(
        generated,
        reference,
        prc_neighborhood=settings.nearest,
        prc_batch_size=DISTANCE_ROWS,
        save_cpu_ram=True,
        verbose=False,
    )
    return {
        "fid": fid(statistics(generated), statistics(reference)),
        "fid_std": bootstrap_fid(generated, reference, settings),
        "is": isc[KEY_METRIC_ISC_MEAN],
        "is_std": isc[KEY_METRIC_ISC_STD],
        "precision": prc[KEY_METRIC_PRECISION],
        "recall": prc[KEY_METRIC_RECALL],
        "kid": kid[KEY_METRIC_KID_MEAN],
        "kid_std": kid[KEY_METRIC_KID_STD],
    }


def statistics(features: Tensor) -> Statistics:
    """Return mean and covariance of float64 features."""
    found: Statistics = fid_features_to_statistics(features)
    return found


def fid(one: Statistics, other: Statistics) -> float:
    """Return the Frechet distance of two normal distributions."""
    found: float = fid_statistics_to_metric(one, other, verbose=False)[KEY_METRIC_FID]
    return found


def bootstrap_fid(generated: Tensor, reference: Tensor, settings: Metrics) -> float:
    """Return the standard deviation of FID when the generated images are drawn again.

    With replacement, `settings.bootstrap` times; the reference stays, as it is the same for all
    that is compared. Resampling repeats images and so raises FID itself; its spread is what counts.
    """
    random = np.random.Generator(np.random.Philox(key=[SEED, 0]))
    target = statistics(reference)
    found = []
    for _ in range(settings.bootstrap):
        chosen = torch.from_numpy(random.integers(len(generated), size=len(generated)))
        found.append(fid(statistics(generated[chosen]), target))
    return float(np.std(found, ddof=1))
