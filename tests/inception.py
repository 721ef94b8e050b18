"""Files of the outside ones' form: random weights of Inception, and images in ADM's .npz."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

POOL, SPATIAL, LOGITS = 2048, 2023, 1008


class _Blank(FeatureExtractorInceptionV3):
    """The network without the weights that its constructor asks for."""

    def load_state_dict(self, state):
        assert state == {}


def write_inception(path: Path, seed: int = 0) -> Path:
    """Write random weights in torch-fidelity's file format, of a scale that keeps signals alive."""
    with patch.object(
        feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *a, **k: {}
    ):
        network = _Blank("blank", ["2048"])
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path


def random_images(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Return colored images uint8 (count, size, size, 3) that differ from each other."""
    random = np.random.default_rng(seed)
    colors = random.integers(0, 256, (count, 1, 1, 3))
    noise = random.integers(-60, 60, (count, size, size, 3))
    return np.clip(colors + noise, 0, 255).astype(np.uint8)


def write_adm_reference(path: Path, images: np.ndarray, seed: int = 0) -> Path:
    """Write an .npz with ADM's names: images, and statistics that are not those of the images."""
    arrays = {"arr_0": images}
    random = np.random.default_rng(seed)
    for suffix, width in (("", POOL), ("_s", SPATIAL)):
        features = random.normal(size=(width + 100, width))
        arrays[f"mu{suffix}"] = features.mean(0)
        arrays[f"sigma{suffix}"] = np.cov(features, rowvar=False)
    np.savez(path, **arrays)
    return path
