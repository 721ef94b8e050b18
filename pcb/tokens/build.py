"""The stage `tokens`: codes of every training image at every scale that a model needs.

Shards have fixed boundaries and each scale its own folder, so that adding a scale rewrites nothing;
a shard that is there is finished, so that an interrupted run continues. Memory holds one batch.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcb.data.arrays import from_uint8, save_array
from pcb.data.prepare import TRAIN_IMAGES, TRAIN_LABELS
from pcb.data.shards import LABELS, token_shard
from pcb.device import compute_exactly, pick_device
from pcb.stage import Job
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.vq import Tokenizer


def build(job: Job) -> dict[str, Any]:
    """Encode what is not there yet."""
    preset = job.preset
    device = pick_device(preset.compute)
    compute_exactly(device, preset.compute.threads)
    tokenizer = load_tokenizer(job.inputs["tokenizer"], preset.tokenizer.autoencoder).to(device)
    images = np.load(job.inputs["data"] / TRAIN_IMAGES, mmap_mode="r")
    labels = np.load(job.inputs["data"] / TRAIN_LABELS)
    if job.whole:
        save_array(job.folder / LABELS, labels)
    starts = range(0, len(images), preset.tokens.shard_images)
    own = [(k, start) for k, start in enumerate(starts) if job.makes(k)]
    total = sum(min(preset.tokens.shard_images, len(images) - start) for _, start in own)
    with job.progress("images", total) as progress:
        for shard, start in own:
            part = images[start : start + preset.tokens.shard_images]
            paths = {size: token_shard(job.folder, size, shard) for size in preset.all_sizes}
            missing = [size for size, path in paths.items() if not path.exists()]
            if not missing:
                progress.skip(len(part))
                continue
            codes = encode(tokenizer, part, missing, preset.compute.encoding_batch, device)
            for size in missing:
                paths[size].parent.mkdir(exist_ok=True)
                save_array(paths[size], codes[size])
            progress.advance(len(part))
    return {"images": len(images), "crops": images.shape[1], "sizes": list(preset.all_sizes)}


@torch.inference_mode()
def encode(
    tokenizer: Tokenizer,
    images: NDArray[np.uint8],
    sizes: list[int],
    batch: int,
    device: torch.device,
) -> dict[int, NDArray[np.uint16]]:
    """Return the codes of uint8 (n, crops, 3, H, W) images: size -> (n, crops, size, size)."""
    count, crops = images.shape[:2]
    flat = images.reshape(count * crops, *images.shape[2:])
    parts: dict[int, list[NDArray[np.uint16]]] = {size: [] for size in sizes}
    for start in range(0, len(flat), batch):
        pixels = from_uint8(torch.from_numpy(flat[start : start + batch].copy()).to(device))
        for size, grid in tokenizer.codes(pixels, sizes).items():
            parts[size].append(grid.cpu().numpy().astype(np.uint16))
    return {
        size: np.concatenate(found).reshape(count, crops, size, size)
        for size, found in parts.items()
    }
