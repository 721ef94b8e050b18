"""torch-fidelity's Inception, and ADM's spatial features beside what it returns.

The network is TensorFlow's of 2015, resizing included, which ADM's evaluator runs too. It computes
in float32, without TF32 (`pcb.runtime.device.set_tf32`).

Letters: B images, S spatial features.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.utils import create_feature_extractor

from pcb.errors import UserError
from pcb.metrics.features import Extractor, Layers
from pcb.runtime.torch_files import read_torch, tensors_of
from pcb.runtime.weights import check_finite

NETWORK = "inception-v3-compat"
"""Its name in torch-fidelity."""
LAYERS = ["2048", "logits_unbiased"]
"""Pool features, and logits without bias: what ADM's Inception score reads."""
CHANNELS = 7
"""sFID reads so many channels of `mixed_6/conv`, on 17 x 17 places: 2,023 numbers."""
WIDTHS = {"mu": 2048, "mu_s": CHANNELS * 17 * 17}
"""Features of a layer, by the name that ADM's files give its mean."""


def load_inception(path: Path, device: torch.device) -> Extractor:
    """Return the network with the weights of torch-fidelity's file, in evaluation mode.

    Raises UserError naming the file if it is missing, damaged or of another network.
    """
    _check_file(path)
    try:
        network = create_feature_extractor(
            NETWORK,
            LAYERS,
            cuda=False,
            verbose=False,
            feature_extractor_weights_path=str(path),
        )
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not torch-fidelity's Inception weights ({reason})") from None
    return Inception(network.to(device))


class Inception:
    """An extractor: pool features (B, 2048), logits (B, 1008), spatial features (B, 2023)."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._seen: list[Tensor] = []
        # TensorFlow's `mixed_6/conv` by torch-fidelity's conversion of the weights; the module ends
        # in its ReLU, as the name in TensorFlow's graph does.
        network.get_submodule("Mixed_6d.branch1x1").register_forward_hook(self._see)

    def __call__(self, pixels_B3HW: Tensor) -> Layers:
        """Return what the network sees of uint8 images."""
        self._seen.clear()
        pool, logits = self.network(pixels_B3HW)
        (spatial,) = self._seen
        return Layers(pool, logits, spatial)

    def _see(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep ADM's part of the layer, in the order of its stored statistics: y, x, channel."""
        self._seen.append(output[:, :CHANNELS].permute(0, 2, 3, 1).flatten(1))


def _check_file(path: Path) -> None:
    """Refuse a file of anything but finite tensors: torch-fidelity would run what it holds."""
    if not path.exists():
        raise UserError(f"{path}: no such file; `pcb fetch inception` gets it")
    content = read_torch(path, "not readable weights")
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: not torch-fidelity's Inception weights (no mapping of tensors)")
    check_finite(tensors_of(content, str(path)), str(path))
