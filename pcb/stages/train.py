"""The stage `train`: one transformer, trained on the tokens of its scales, or as released."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pcb.config import Preset
from pcb.data.images import open_images
from pcb.external.systems import import_system
from pcb.external.weights import import_released
from pcb.model.weights import AVERAGE, WEIGHTS, build_model
from pcb.pipeline.job import Job
from pcb.runtime.atomic import atomic
from pcb.runtime.device import compute_exactly, pick_device
from pcb.runtime.progress import ShowProgress
from pcb.runtime.ranks import join_ranks
from pcb.runtime.weights import save_weights
from pcb.tokenizer.cache import Codes, TokenCache
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.stream import TokenStream
from pcb.train.loop import Loop
from pcb.train.transformer import objective_of

LOG = "log.csv"
# Losses of the last tenth of a run, or at least one row, make the loss that is reported.
FINAL_FRACTION = 10


def run(job: Job) -> dict[str, Any]:
    """Make a model: train it, or take released weights."""
    name = job.task.model
    assert name is not None
    run = job.preset.models.get(name)
    if run is not None and run.released is None:
        return train(job.preset, name, job.inputs, job.folder, job.progress)
    # Several ranks may have been started for it; the first one is enough.
    if os.environ.get("RANK", "0") != "0":
        return {}
    if run is None:
        return import_system(job.preset, name, job.folder)
    place = f"presets.{job.task.preset}.models.{name}"
    return import_released(job.preset, name, job.inputs["tokenizer"], job.folder, place=place)


def train(
    preset: Preset,
    name: str,
    inputs: Mapping[str, Path],
    folder: Path,
    progress: ShowProgress,
) -> dict[str, Any]:
    """Train one of a preset's models to the end; write weights and log into `folder`."""
    settings, compute = preset.models[name].training, preset.compute
    assert settings is not None
    device = pick_device(compute)
    # The transformer has no convolutions; the tokenizer has, where batches are encoded here.
    compute_exactly(device, compute.threads, tf32=preset.tokenizer.tf32)
    ranks = join_ranks(device, settings.batch_size)
    # The initial weights come from the CPU's generator on any device.
    torch.manual_seed(settings.seed)
    model = build_model(preset, name, inputs["tokenizer"]).to(device)
    codes = open_codes(preset, name, inputs, device)
    objective = objective_of(model, codes, settings, compute, ranks)
    loop = Loop(
        objective=objective,
        folder=folder,
        checkpoint_seconds=compute.checkpoint_seconds,
        prefetch=compute.prefetch,
        ranks=ranks,
    )
    loop.resume()
    with progress("iterations", objective.iterations) as counter:
        loop.run(counter)
    loop.part()
    if not ranks.first:
        return {}
    save_weights(folder / WEIGHTS, model.state_dict())
    if objective.average is not None:
        save_weights(folder / AVERAGE, objective.average.state)
    write_log(folder / LOG, loop.log)
    return {
        "parameters": model.num_parameters(),
        "iterations": loop.iteration,
        "images_seen": loop.iteration * objective.batches.batch_size,
        "loss": final_loss(loop.log),
    }


def open_codes(
    preset: Preset, name: str, inputs: Mapping[str, Path], device: torch.device
) -> Codes:
    """Return the codes that a model trains on: of the cache, or of images as they are drawn."""
    sizes = preset.sizes(name)
    if preset.tokens.source == "cache":
        return TokenCache.open(inputs["tokens"], sizes)
    tokenizer = load_tokenizer(inputs["tokenizer"], preset.tokenizer.autoencoder).to(device)
    images = open_images(inputs["data"], preset, "train")
    return TokenStream(images, tokenizer, sizes, preset.compute.encoding_batch)


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Write a training log as CSV."""
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def final_loss(rows: list[dict[str, float]]) -> float:
    """Mean training loss over the last tenth of the log, in nats per token."""
    last = rows[-max(1, len(rows) // FINAL_FRACTION) :]
    return sum(row["loss"] for row in last) / len(last)
