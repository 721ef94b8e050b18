"""The miniature's feature extractor: a small convolutional classifier.

It is registered with torch-fidelity, so that its command line and `calculate_metrics` know it too.

Letters: B images, F features, K classes, H W pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from pcb.data.arrays import from_uint8
from pcb.errors import UserError
from pcb.runtime.weights import check_state

WEIGHTS = "classifier.safetensors"
EXTRACTOR = "pcb-classifier"
"""Its name in torch-fidelity."""


class Classifier(nn.Module):
    """Four convolutions, the mean over the image, logits.

    Convolutions and the mean make it indifferent to where a digit stands.
    """

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(3, 32, stride=2),
            _layer(32, 64, stride=2),
            _layer(64, 128, stride=1),
            _layer(128, features, stride=2),
        )
        self.head = nn.Linear(features, num_classes)

    def forward(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, F), not negative, and logits (B, K) of uint8 images."""
        features_BF = self.body(from_uint8(pixels_B3HW)).mean((2, 3))
        return features_BF, self.head(features_BF)


def _layer(channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Convolution, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def load_classifier(folder: Path) -> Classifier:
    """Read a trained classifier, in evaluation mode; its sizes are those of its tensors.

    Raises UserError naming the file if it is missing, damaged or of another form.
    """
    path = folder / WEIGHTS
    try:
        state: Mapping[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the stage `reference` first") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable weights ({error})") from None
    if "head.weight" not in state:
        raise UserError(f"{path}: no `head.weight` in it; is it a classifier?")
    num_classes, features = state["head.weight"].shape
    classifier = Classifier(num_classes, features)
    check_state(classifier, state, str(path))
    classifier.load_state_dict(state)
    return classifier.eval().requires_grad_(False)


@torch.inference_mode()
def classify(classifier: Classifier, pixels: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Return features (n, F) and logits (n, K), float32 on the CPU, of uint8 (n, 3, H, W)."""
    device = classifier.head.weight.device
    parts = [classifier(part.to(device)) for part in pixels.split(batch)]
    features, logits = zip(*parts, strict=True)
    return torch.cat(features).cpu(), torch.cat(logits).cpu()


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
