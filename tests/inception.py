"""Files of the outside ones' form: random weights of Inception, and images in ADM's .npz."""

from pathlib import Path

import numpy as np
import torch

POOL, SPATIAL, LOGITS = 2048, 2023, 1008


def write_inception(path: Path, seed: int = 0) -> Path:
    """Write random weights in torch-fidelity's file format, of a scale that keeps signals alive."""
    from benchmarks.stages import untrained_inception

    network = untrained_inception()
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
