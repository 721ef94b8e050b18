"""Parts of the stage `metrics` that see every image: Inception's features."""

import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pcb import flops
from pcb.bench.bounds import network_phase
from pcb.bench.case import FAST, Case, Part, Scope

_PIXELS = 256


def parts(scope: Scope) -> Iterator[Part]:
    """Yield the extraction of features, of the images that a batch of `metrics` has."""
    batches = {"quick": (), "short": (4,), "full": (64, 250)}[scope]
    for batch in batches if find_spec("torch_fidelity") else ():
        yield Part(
            name=f"features/inception/b{batch}",
            item="images",
            make=partial(_extract, batch),
            kind="features",
        )


def _extract(batch: int, device: torch.device) -> Case:
    """Extract the features of random images with random weights."""
    from pcb.metrics.inception import Inception

    extractor = Inception(_network().to(device))
    shape = (batch, 3, _PIXELS, _PIXELS)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)

    @torch.inference_mode()
    def extract() -> object:
        return extractor(pixels)

    phases = network_phase(
        flops.INCEPTION,
        weights=sum(weight.numel() for weight in extractor.network.parameters()),
        values=3 * _PIXELS**2,
        value_bytes=4,
        batch=batch,
    )
    return Case(variants={FAST: extract}, items=batch, phases=tuple(phases))


def _network() -> torch.nn.Module:
    """Return torch-fidelity's network as it is made, before weights are read into it."""
    # Only here: machines with a fixed set of packages lack it, and can measure all but this.
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from pcb.metrics.inception import LAYERS, NETWORK

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            """Read nothing."""

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="pcb-bench-") as folder:
        path = Path(folder) / "nothing.pth"
        torch.save({}, path)
        return Untrained(NETWORK, LAYERS, feature_extractor_weights_path=str(path)).eval()
