"""The stage `metrics`: scores of one sampling config's images, decoded as they are read.

One pass over the images serves every metric, and no pixel touches the disk. A shard of features
belongs to each shard of the samples; shards are temporary, and the scores follow from all of them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.config import Preset
from pcb.data.arrays import to_uint8
from pcb.errors import UserError
from pcb.metrics.extractor import load_extractor
from pcb.metrics.fidelity import scores
from pcb.metrics.parts import Part, fill_parts, read_parts
from pcb.metrics.target import load_target
from pcb.pipeline.job import Job
from pcb.runtime.atomic import whole_files, write_atomic
from pcb.runtime.device import DTYPES, compute_exactly, pick_device, send
from pcb.sample.uniforms import labels
from pcb.systems.running import classes_of, images_of
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.vq import Tokenizer

SCORES = "metrics.json"
Decode: TypeAlias = Callable[[NDArray[np.uint16], int], Iterator[Tensor]]
"""From codes (images, tokens), so many at a time, to uint8 (B, 3, H, W)."""
Classes: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""From images' indices to their classes."""


def run(job: Job) -> dict[str, Any]:
    """Extract every shard that is not there yet, then score; write metrics.json, return the same.

    Raises UserError unless there are exactly as many images as the settings say.
    """
    preset = job.preset
    device = pick_device(preset.compute)
    compute_exactly(device, 1)
    shards = sample_shards(job.inputs["sample"], preset.sampling.images)
    model = job.task.model
    assert model is not None
    # Another system decodes with its own tokenizer, which stands beside its weights.
    made = job.inputs["train" if model in preset.systems else "tokenizer"]
    decode = decoding(preset, model, made, device)
    parts = feature_parts(decode, shards, preset.compute.feature_batch, job.folder)
    extractor = load_extractor(preset.metrics.extractor, job.inputs["reference"], device)
    own = [part for k, part in enumerate(parts) if job.makes(k)]
    with job.progress("images", sum(part.images for part in own)) as progress:
        fill_parts(own, extractor, progress, preset.compute.prefetch)
    if not job.whole:
        return {}
    features = read_parts(parts)
    target = load_target(job.inputs["reference"])
    print(f"{job.task.name}: scoring", flush=True)
    result = {
        "images": len(features.pool),
        **scores(features, target, preset.metrics, device),
    }
    if preset.metrics.extractor == "classifier":
        result["agreement"] = agreement(features.logits, asked_for(preset, model))
    write_atomic(job.folder / SCORES, json.dumps(result, indent=1) + "\n")
    return result


def sample_shards(folder: Path, images: int) -> list[Path]:
    """Return the files of a sample set of exactly so many images, in order.

    Raises UserError if it holds another number.
    """
    paths = whole_files(folder, "codes-*.npy")
    found = sum(len(np.load(path, mmap_mode="r")) for path in paths)
    if found != images:
        raise UserError(
            f"{folder}: holds {found} images where sampling.images = {images}; "
            "make the stage `sample` again"
        )
    return paths


def feature_parts(decode: Decode, shards: Sequence[Path], batch: int, folder: Path) -> list[Part]:
    """Return a part of features for each shard: temporaries until the stage is complete."""
    parts = []
    for path in shards:
        codes = np.load(path, mmap_mode="r")
        parts.append(
            Part(
                path=folder / f".{path.stem.replace('codes', 'features')}.npz",
                images=len(codes),
                batches=partial(decode, codes, batch),
            )
        )
    return parts


def decoding(preset: Preset, model: str, folder: Path, device: torch.device) -> Decode:
    """Return how a model's codes become images.

    folder: that of the tokenizer, or of another system's weights, beside which its own stands.
    """
    precision = DTYPES[preset.metrics.decode_precision]
    if model in preset.systems:
        run, side = preset.systems[model], preset.data.image_size
        return images_of(run, folder, side=side, device=device, precision=precision)
    tokenizer = load_tokenizer(folder, preset.tokenizer.autoencoder).to(device)
    if preset.metrics.decode_precision != "float32":
        tokenizer.round_decoder_to(precision)

    def decode(codes: NDArray[np.uint16], batch: int) -> Iterator[Tensor]:
        return decoded(tokenizer, finest(codes, preset.grid), batch)

    return decode


def asked_for(preset: Preset, model: str) -> Classes:
    """Return which classes images of a model were asked to show."""
    run, classes = preset.systems.get(model), preset.data.num_classes
    if run is None:
        return partial(labels, classes)
    return classes_of(run.ways.of(run.published).classes, classes, preset.sampling.seed)


def finest(codes: NDArray[np.uint16], grid: int) -> NDArray[np.uint16]:
    """Return the finest scale of codes (images, tokens): (images, grid, grid)."""
    return codes[:, -grid * grid :].reshape(-1, grid, grid)


def decoded(tokenizer: Tokenizer, codes: NDArray[np.uint16], batch: int) -> Iterator[Tensor]:
    """Yield uint8 (B, 3, H, W) images of codes (images, h, w), on the tokenizer's device."""
    for start in range(0, len(codes), batch):
        part = torch.from_numpy(codes[start : start + batch].astype(np.int64))
        yield to_uint8(tokenizer.decode(send(part, tokenizer.codebook.device)))


def agreement(logits: Tensor, classes: Classes) -> float:
    """Return the fraction of images whose asked-for class the classifier sees."""
    asked = torch.from_numpy(classes(np.arange(len(logits))))
    return float((logits.argmax(1) == asked).double().mean())
