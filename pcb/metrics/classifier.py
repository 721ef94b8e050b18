"""The miniature's feature extractor: a small convolutional classifier.

Letters: B images, F features, K classes, H W pixels.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pcb.data.arrays import from_uint8
from pcb.errors import UserError
from pcb.runtime.weights import check_state

WEIGHTS = "classifier.safetensors"


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
