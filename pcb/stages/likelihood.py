"""The stage `likelihood`: of held-out images, under one model and one schedule.

Shards of images have fixed boundaries, so that an interrupted run continues and several processes
share the work. Computed in float32 whatever precision samples: the differences that it is for are
smaller than what rounding to 16 bits adds.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcb.config import SamplingConfig
from pcb.data.arrays import save_array, save_arrays
from pcb.metrics.likelihood import negative_log_likelihood
from pcb.model.sequence import sequence_of
from pcb.model.transformer import Transformer
from pcb.model.weights import build_model, load_weights
from pcb.order.schedule import Schedule
from pcb.pipeline.job import Job
from pcb.runtime.device import compute_exactly, pick_device, send
from pcb.tokenizer.cache import TokenCache

RESULT = "nll.npz"
"""``nll``: float64 (images, scales), nats; ``labels``: int64 (images,); ``sizes``: the scales."""
SHARD_IMAGES = 500
"""Images that an interruption loses at most, and the least that a process makes."""


def run(job: Job) -> dict[str, Any]:
    """Measure every shard that is not there yet, then join them."""
    name, config = job.task.model, job.task.sampling_config
    assert name is not None and isinstance(config, SamplingConfig)
    preset, device = job.preset, pick_device(job.preset.compute)
    # One thread, as in sampling: the rounding of a product must not depend on its rows.
    compute_exactly(device, 1)
    model = build_model(preset, name, job.inputs["tokenizer"])
    load_weights(job.inputs["train"], model)
    model = model.to(device).eval().requires_grad_(False)
    schedule = config.schedule(preset.sizes(name))
    held_out = TokenCache.open(job.inputs["tokens"], schedule.sizes, "held_out")
    starts = range(0, len(held_out.labels), SHARD_IMAGES)
    shards = [np.arange(k, min(k + SHARD_IMAGES, len(held_out.labels))) for k in starts]
    own = [(k, images) for k, images in enumerate(shards) if job.makes(k)]
    with job.progress("images", sum(len(images) for _, images in own)) as progress:
        for number, images in own:
            path = shard_path(job.folder, number)
            if path.exists():
                progress.skip(len(images))
                continue
            batch = preset.compute.sampling_batch
            save_array(path, measure_shard(model, schedule, held_out, images, batch))
            progress.advance(len(images))
    if not job.whole:
        return {}
    paths = [shard_path(job.folder, number) for number in range(len(shards))]
    nll = np.concatenate([np.load(path) for path in paths])
    arrays = {"nll": nll, "labels": held_out.labels, "sizes": np.array(schedule.sizes)}
    save_arrays(job.folder / RESULT, arrays)
    return summary(schedule, nll)


def shard_path(folder: Path, number: int) -> Path:
    """Return where a shard lies until the stage is complete."""
    return folder / f".nll-{number:05d}.npy"


def measure_shard(
    model: Transformer,
    schedule: Schedule,
    held_out: TokenCache,
    images: NDArray[np.int64],
    batch: int,
) -> NDArray[np.float64]:
    """Return the NLL of every scale of these held-out images in nats: (n, scales)."""
    device = model.codebook_VC.device
    sequence = sequence_of(schedule, model.settings.order).to(device)
    parts = []
    for start in range(0, len(images), batch):
        chosen = images[start : start + batch]
        grids = held_out.codes(chosen, np.zeros_like(chosen))
        codes = {size: send(torch.from_numpy(grid), device) for size, grid in grids.items()}
        labels_B = send(torch.from_numpy(held_out.labels[chosen]), device)
        parts.append(negative_log_likelihood(model, sequence, labels_B, codes))
    # On a GPU nobody waits before the shard's end.
    return torch.cat(parts).numpy(force=True)


def summary(schedule: Schedule, nll: NDArray[np.float64]) -> dict[str, Any]:
    """Return what the manifest says of nats (images, scales) under a schedule."""
    totals = nll.sum(1)
    tokens = np.array([size * size for size in schedule.sizes])
    bits = nll.mean(0) / np.log(2)
    return {
        "images": len(nll),
        "steps": schedule.steps,
        "blocks_per_scale": list(schedule.blocks_per_scale),
        "scales": list(schedule.sizes),
        "nats_per_image": float(totals.mean()),
        "nats_per_image_se": float(totals.std(ddof=1) / np.sqrt(len(nll)))
        if len(nll) > 1
        else None,
        "bits_per_token": float(bits.sum() / tokens.sum()),
        "nats_per_scale": nll.mean(0).tolist(),
        "bits_per_token_per_scale": (bits / tokens).tolist(),
    }
