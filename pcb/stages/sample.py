"""The stage `sample`: the codes of all images of one sampling setting, in shards."""

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcb.config import Sampling
from pcb.data.arrays import save_array
from pcb.model.weights import build_model, load_weights
from pcb.order.schedule import Schedule
from pcb.pipeline.job import Job
from pcb.runtime.atomic import atomic
from pcb.runtime.device import DTYPES, compute_exactly, pick_device
from pcb.sample.draw import labels, uniforms
from pcb.sample.drawing import StepLogits
from pcb.sample.guidance import Guidance
from pcb.sample.sampler import Sampler

STATISTICS = "stats.csv"


def run(job: Job) -> dict[str, Any]:
    """Draw every shard that is not there yet, then summarize the steps."""
    name, point = job.task.model, job.task.sampling_config
    assert name is not None and point is not None
    sampling, device = job.preset.sampling, pick_device(job.preset.compute)
    # One thread: with several, the rounding of a CPU product depends on its number of rows, and
    # so an image on its batch. Settings of the sweep run side by side instead.
    compute_exactly(device, 1)
    model = build_model(job.preset, name, job.inputs["tokenizer"])
    load_weights(job.inputs["train"], model)
    model = model.to(device).eval().requires_grad_(False)
    model.round_to(DTYPES[sampling.precision])
    schedule = point.schedule(job.preset.sizes(name))
    guidance = Guidance(weight=point.cfg, start_step=point.cfg_start_step)
    sampler = Sampler(
        model,
        schedule,
        guidance=guidance,
        temperature=sampling.temperature,
        speed=job.preset.compute.speed,
    )
    own = [indices for k, indices in enumerate(shards(sampling)) if job.makes(k)]
    with job.progress("images", sum(map(len, own))) as progress:
        for indices in own:
            path = shard_path(job.folder, sampling, indices)
            # The sums are gone once a set is complete: a shard lost later is drawn with the rest.
            if all(p.exists() for p in (path, statistics_path(path), seconds_path(path))):
                progress.skip(len(indices))
                continue
            draw_shard(sampler, sampling, indices, job.folder, job.preset.compute.sampling_batch)
            progress.advance(len(indices))
    if not job.whole:
        return {}
    seconds = sum(
        float(np.load(seconds_path(shard_path(job.folder, sampling, indices)))) for indices in own
    )
    write_statistics(job.folder, sampling, schedule)
    return {
        "images": sampling.images,
        "steps": schedule.steps,
        "blocks_per_scale": list(schedule.blocks_per_scale),
        "scales": list(schedule.sizes),
        # Of all processes that drew some, one after the other.
        "seconds_per_image": seconds / sampling.images,
        "device": device.type,
        "batch": job.preset.compute.sampling_batch,
    }


def shards(sampling: Sampling) -> Iterator[NDArray[np.int64]]:
    """Yield the image indices of every shard."""
    for start in range(0, sampling.images, sampling.shard_images):
        yield np.arange(start, min(start + sampling.shard_images, sampling.images))


def shard_path(folder: Path, sampling: Sampling, indices: NDArray[np.int64]) -> Path:
    """Return the path of a shard's codes: uint16 (images, tokens)."""
    return folder / f"codes-{int(indices[0]) // sampling.shard_images:05d}.npy"


def draw_shard(
    sampler: Sampler, sampling: Sampling, indices: NDArray[np.int64], folder: Path, batch: int
) -> None:
    """Draw the images of one shard; its statistics come first, its codes make it complete."""
    started = time.monotonic()
    model = sampler.model
    sums = StepSums(sampling.temperature)
    parts = []
    for start in range(0, len(indices), batch):
        chosen = indices[start : start + batch]
        classes = labels(model.num_classes, chosen)
        randoms = torch.from_numpy(uniforms(sampling.seed, chosen, model.sizes))
        # They stay where they are: a GPU would wait for Python after every batch.
        parts.append(sampler.draw(torch.from_numpy(classes), randoms, sums.add))
    path = shard_path(folder, sampling, indices)
    codes = torch.cat(parts).numpy(force=True).astype(np.uint16)
    save_array(statistics_path(path), sums.array())
    save_array(seconds_path(path), np.array(time.monotonic() - started))
    save_array(path, codes)


def statistics_path(codes: Path) -> Path:
    """Return where a shard's sums lie until the stage is complete."""
    return codes.with_name(codes.name.replace("codes", ".stats"))


def seconds_path(codes: Path) -> Path:
    """Return where the time that a shard took lies until the stage is complete."""
    return codes.with_name(codes.name.replace("codes", ".seconds"))


class StepSums:
    """Sums over tokens, step by step, of entropy and of the chosen codes' probability."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature or 1.0
        self.sums: dict[int, torch.Tensor] = {}

    def add(self, seen: StepLogits) -> None:
        """Take in one step of one batch."""
        logs_BnV = torch.log_softmax(seen.logits_BnV.float() / self.temperature, dim=-1)
        entropy = -(logs_BnV.exp() * logs_BnV).sum(-1)
        chosen = logs_BnV.gather(-1, seen.codes_Bn[..., None]).exp()
        count = torch.tensor(float(entropy.numel()), dtype=torch.float64, device=entropy.device)
        row = torch.stack([count, entropy.double().sum(), chosen.double().sum()])
        self.sums[seen.step] = self.sums[seen.step] + row if seen.step in self.sums else row

    def array(self) -> NDArray[np.float64]:
        """Return (steps, 3): tokens, sum of entropies in nats, sum of probabilities."""
        return torch.stack([self.sums[step] for step in sorted(self.sums)]).cpu().numpy()


def write_statistics(folder: Path, sampling: Sampling, schedule: Schedule) -> None:
    """Write the mean entropy (nats) and probability of the chosen codes of every step as CSV."""
    paths = [shard_path(folder, sampling, indices) for indices in shards(sampling)]
    sums = sum(np.load(statistics_path(path)) for path in paths)
    scales = np.repeat(schedule.sizes, schedule.blocks_per_scale)
    with atomic(folder / STATISTICS) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "scale", "tokens", "entropy", "probability"])
        for step, (count, entropy, probability) in enumerate(sums):
            tokens = round(count / sampling.images)
            writer.writerow([step, scales[step], tokens, entropy / count, probability / count])
