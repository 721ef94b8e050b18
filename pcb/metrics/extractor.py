"""The extractor of a preset's metrics, with the weights that the stage `reference` left."""

from pathlib import Path

import torch
from torch import Tensor

from pcb.metrics.classifier import load_classifier
from pcb.metrics.features import Extractor, Layers
from pcb.metrics.inception import load_inception

INCEPTION_WEIGHTS = "inception.pth"


def load_extractor(name: str, folder: Path, device: torch.device) -> Extractor:
    """Return the extractor that the setting `metrics.extractor` names, on a device.

    Raises UserError naming the file of its weights if that is missing or damaged.
    """
    if name == "inception":
        return load_inception(folder / INCEPTION_WEIGHTS, device)
    classifier = load_classifier(folder).to(device)

    def extract(pixels_B3HW: Tensor) -> Layers:
        return Layers(*classifier(pixels_B3HW))

    return extract
