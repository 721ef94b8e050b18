"""The stage `sample`: the codes of all images of one sampling config, in shards.

The paper's own model and the other systems go through one protocol: classes, random numbers and
orders of the images in, codes out.
"""

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcb.config import Preset, Sampling, SamplingConfig, SystemConfig
from pcb.data.arrays import save_array
from pcb.model.weights import build_model, load_weights
from pcb.pipeline.job import Job
from pcb.runtime.atomic import atomic
from pcb.runtime.device import DTYPES, compute_exactly, pick_device
from pcb.sample.decoder import Block
from pcb.sample.filter import Filter
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import sampler_for
from pcb.sample.ready import Ready
from pcb.sample.sampler import Measured
from pcb.sample.uniforms import labels, uniforms
from pcb.systems.running import running

STATISTICS = "stats.csv"


def run(job: Job) -> dict[str, Any]:
    """Sample every shard that is not there yet, then summarize the steps."""
    sampling, device = job.preset.sampling, pick_device(job.preset.compute)
    # One thread: with several, the rounding of a CPU product depends on its number of rows, and
    # so an image on its batch. Settings of the sweep run side by side instead.
    compute_exactly(device, 1)
    ready = _ready(job.preset, job.task.model, job.task.sampling_config, job.inputs, device)
    own = [indices for k, indices in enumerate(shards(sampling)) if job.makes(k)]
    with job.progress("images", sum(map(len, own))) as progress:
        for indices in own:
            path = shard_path(job.folder, sampling, indices)
            # The sums are gone once a set is complete: a shard lost later is sampled with the rest.
            if all(p.exists() for p in (path, statistics_path(path), seconds_path(path))):
                progress.skip(len(indices))
                continue
            sample_shard(ready, sampling, indices, job.folder, job.preset.compute.sampling_batch)
            progress.advance(len(indices))
    if not job.whole:
        return {}
    seconds = sum(
        float(np.load(seconds_path(shard_path(job.folder, sampling, indices)))) for indices in own
    )
    write_statistics(job.folder, sampling, ready.sides)
    return {
        "images": sampling.images,
        "steps": ready.sampler.decoder.steps,
        **ready.results,
        # Of all processes that sampled some, one after the other.
        "seconds_per_image": seconds / sampling.images,
        "device": device.type,
        "batch": job.preset.compute.sampling_batch,
    }


def _ready(
    preset: Preset,
    name: str | None,
    config: SamplingConfig | SystemConfig | None,
    inputs: Mapping[str, Path],
    device: torch.device,
) -> Ready:
    """Return the paper's own model under a schedule and guidance, or another system's."""
    assert name is not None
    if name not in preset.models:
        return _system(preset, name, inputs["train"], device)
    assert isinstance(config, SamplingConfig)
    model = build_model(preset, name, inputs["tokenizer"])
    load_weights(inputs["train"], model)
    model = model.to(device).eval().requires_grad_(False)
    model.round_to(DTYPES[preset.sampling.precision])
    schedule = config.schedule(preset.sizes(name))
    sampler = sampler_for(
        model,
        schedule,
        guidance=Guidance(weight=config.cfg, start_step=config.cfg_start_step),
        filter=Filter(temperature=preset.sampling.temperature),
        speed=preset.compute.speed,
        measure=entropy_and_probability,
    )
    blocks, scales = list(schedule.blocks_per_scale), list(schedule.sizes)
    return Ready(
        sampler=sampler,
        labels=partial(labels, model.num_classes),
        sizes=model.sizes,
        sides=np.repeat(scales, blocks).tolist(),
        results={"blocks_per_scale": blocks, "scales": scales},
    )


def _system(preset: Preset, name: str, folder: Path, device: torch.device) -> Ready:
    """Return another system, as it was published."""
    return running(
        preset.systems[name],
        folder,
        seed=preset.sampling.seed,
        dtype=DTYPES[preset.sampling.precision],
        device=device,
        graphs=preset.compute.speed.graphs,
        measure=entropy_and_probability,
    )


def shards(sampling: Sampling) -> Iterator[NDArray[np.int64]]:
    """Yield the image indices of every shard."""
    for start in range(0, sampling.images, sampling.shard_images):
        yield np.arange(start, min(start + sampling.shard_images, sampling.images))


def shard_path(folder: Path, sampling: Sampling, indices: NDArray[np.int64]) -> Path:
    """Return the path of a shard's codes: uint16 (images, tokens)."""
    return folder / f"codes-{int(indices[0]) // sampling.shard_images:05d}.npy"


def sample_shard(
    ready: Ready,
    sampling: Sampling,
    indices: NDArray[np.int64],
    folder: Path,
    batch: int,
) -> None:
    """Sample the images of one shard; its statistics come first, its codes make it complete."""
    started = time.monotonic()
    sums = StepSums()
    parts = []
    for start in range(0, len(indices), batch):
        chosen = indices[start : start + batch]
        classes = torch.from_numpy(ready.labels(chosen))
        randoms = torch.from_numpy(uniforms(sampling.seed, chosen, ready.sizes))
        orders = None if ready.orders is None else torch.from_numpy(ready.orders(chosen))
        # They stay where they are: a GPU would wait for Python after every batch.
        parts.append(ready.sampler.sample(classes, randoms, orders, observe=sums.add))
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


def entropy_and_probability(block: Block) -> Measured:
    """Return each token's entropy in nats, and the probability of its code, (B, n) each."""
    chosen = block.probabilities_BnV.gather(-1, block.codes_Bn[..., None]).squeeze(-1)
    return torch.special.entr(block.probabilities_BnV).sum(-1), chosen


class StepSums:
    """Sums over tokens, step by step, of entropy and of the chosen codes' probability."""

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}
        self._sums: dict[int, torch.Tensor] = {}

    def add(self, step: int, measured: Measured) -> None:
        """Take in what was measured at one step of one batch, (B, n) each."""
        row = torch.stack([part.double().sum() for part in measured])
        self._sums[step] = self._sums[step] + row if step in self._sums else row
        self._tokens[step] = self._tokens.get(step, 0) + measured[0].numel()

    def array(self) -> NDArray[np.float64]:
        """Return (steps, 3): tokens, sum of entropies in nats, sum of probabilities."""
        steps = sorted(self._sums)
        sums = torch.stack([self._sums[step] for step in steps]).numpy(force=True)
        return np.column_stack([[float(self._tokens[step]) for step in steps], sums])


def write_statistics(folder: Path, sampling: Sampling, sides: Sequence[int]) -> None:
    """Write the mean entropy (nats) and probability of the chosen codes of every step as CSV.

    sides: of every step the side of its grid.
    """
    paths = [shard_path(folder, sampling, indices) for indices in shards(sampling)]
    sums = sum(np.load(statistics_path(path)) for path in paths)
    with atomic(folder / STATISTICS) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "scale", "tokens", "entropy", "probability"])
        for step, (count, entropy, probability) in enumerate(sums):
            tokens = round(count / sampling.images)
            writer.writerow([step, sides[step], tokens, entropy / count, probability / count])
