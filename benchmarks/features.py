"""Parts of the stage `metrics` that see every image: features, alone and behind the decoder."""

import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bounds import network_phase
from benchmarks.case import BASELINE, FAST, Case, Part, Precision, Scope, suffix
from benchmarks.standins import random_tokenizer
from pcb.config import Preset
from pcb.config.loader import load_preset
from pcb.metrics.features import Extractor, Features, Layers, extract
from pcb.preflight import flops

_PIXELS = 256
_BATCHES = 4
"""Batches that are decoded and seen in a row: the first has nothing to be made beside."""


def parts(scope: Scope) -> Iterator[Part]:
    """Yield the extraction of features, and with it the decoding, of the batches of `metrics`."""
    # Machines with a fixed set of packages lack it, and can measure all but this.
    if find_spec("torch_fidelity") is None:
        return
    for batch in {"quick": (), "short": (4,), "full": (64, 250)}[scope]:
        yield Part(
            name=f"features/inception/b{batch}",
            item="images",
            make=partial(_extract, batch),
            kind="features",
        )
    if scope == "full":
        yield _decoded_part("paper", 64)
        yield _decoded_part("paper", 64, "bfloat16")
    else:
        yield _decoded_part("mini", 8 if scope == "quick" else 250)


def _decoded_part(preset: str, batch: int, precision: Precision = "float32") -> Part:
    return Part(
        name=f"features/decoded/{preset}/b{batch}{suffix(precision)}",
        item="images",
        make=partial(_decode_and_extract, preset, batch, precision),
        precision=precision,
    )


def _decode_and_extract(
    preset: str, batch: int, precision: Precision, device: torch.device
) -> Case:
    """Decode random codes and extract their features, the next batch made beside this one or not.

    There is no bound: features and pixels are not of one precision.
    """
    from pcb.stages.metrics import decoded

    settings = load_preset(preset)
    tokenizer = random_tokenizer(settings.tokenizer.autoencoder, device, precision)
    extractor, grid = _extractor(settings, device), settings.grid
    codes = np.random.default_rng(0).integers(
        settings.tokenizer.autoencoder.codebook_size,
        size=(_BATCHES * batch, grid, grid),
        dtype=np.uint16,
    )

    def score(prefetch: int) -> Features:
        return extract(extractor, decoded(tokenizer, codes, batch), lambda _: None, prefetch)

    ways = {FAST: settings.compute.prefetch, BASELINE: 0}

    def differences() -> dict[str, dict[str, float]]:
        shown = score(ways[FAST]).pool
        return {
            name: {"features": float((score(depth).pool - shown).abs().max())}
            for name, depth in ways.items()
        }

    return Case(
        variants={name: partial(score, depth) for name, depth in ways.items()},
        items=len(codes),
        settings={"batch": batch, "prefetch": ways[FAST]},
        differences=differences,
    )


def _extractor(settings: Preset, device: torch.device) -> Extractor:
    """Return a preset's extractor with random weights."""
    from pcb.metrics.classifier import Classifier
    from pcb.metrics.inception import Inception

    if settings.classifier is None:
        return Inception(_network().to(device))
    classifier = Classifier(settings.data.num_classes, settings.classifier.features)
    classifier = classifier.to(device).eval().requires_grad_(False)
    return lambda pixels_B3HW: Layers(*classifier(pixels_B3HW))


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
