"""The stage `metrics`: scores of one sampling setting's images, decoded as they are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.utils import create_feature_extractor

from pcb.atomic import write_atomic
from pcb.data.arrays import to_uint8
from pcb.device import compute_exactly, pick_device
from pcb.errors import UserError
from pcb.metrics.classifier_build import REFERENCE_FEATURES
from pcb.metrics.fidelity import EXTRACTOR, register_classifier, scores
from pcb.sample.draw import labels
from pcb.stage import Job
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.vq import Tokenizer

SCORES = "metrics.json"


def run(job: Job) -> dict[str, Any]:
    """Decode, extract features, score; write metrics.json and return the same."""
    preset = job.preset
    device = pick_device(preset.compute)
    compute_exactly(device, 1)
    codes = finest_codes(job.inputs["sample"], preset.sampling.images, preset.grid)
    tokenizer = load_tokenizer(job.inputs["tokenizer"], preset.tokenizer.autoencoder).to(device)
    register_classifier()
    extractor = create_feature_extractor(
        EXTRACTOR,
        ["features", "logits"],
        cuda=device.type == "cuda",
        verbose=False,
        feature_extractor_weights_path=str(job.inputs["reference"]),
    )
    features, logits = [], []
    with job.progress("images", len(codes)) as progress, torch.inference_mode():
        for part in torch.from_numpy(codes.astype(np.int64)).split(preset.compute.feature_batch):
            found = extractor(decode(tokenizer, part.to(device)))
            features.append(found[0].cpu())
            logits.append(found[1].cpu())
            progress.advance(len(part))
    reference = torch.from_numpy(np.load(job.inputs["reference"] / REFERENCE_FEATURES))
    found_logits = torch.cat(logits)
    result = {
        "images": len(codes),
        **scores(torch.cat(features), found_logits, reference, preset.metrics),
        "agreement": agreement(found_logits, preset.data.num_classes),
    }
    write_atomic(job.folder / SCORES, json.dumps(result, indent=1) + "\n")
    return result


def finest_codes(folder: Path, images: int, grid: int) -> NDArray[np.uint16]:
    """Return the finest scale of exactly so many images: uint16 (images, grid, grid).

    Raises UserError if the sample set holds another number.
    """
    shards = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("codes-*.npy"))]
    found = sum(len(shard) for shard in shards)
    if found != images:
        raise UserError(
            f"{folder}: holds {found} images where sampling.images = {images}; "
            "make the stage `sample` again"
        )
    return np.concatenate([shard[:, -grid * grid :] for shard in shards]).reshape(-1, grid, grid)


def decode(tokenizer: Tokenizer, codes_Bhw: Tensor) -> Tensor:
    """Return uint8 (B, 3, H, W) images of codes."""
    return to_uint8(tokenizer.decode(codes_Bhw))


def agreement(logits: Tensor, num_classes: int) -> float:
    """Share of images whose asked-for class the classifier sees."""
    asked = torch.from_numpy(labels(num_classes, np.arange(len(logits))))
    return float((logits.argmax(1) == asked).double().mean())
