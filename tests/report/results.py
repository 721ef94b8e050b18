"""A small tree of results in every stage's format, with made-up numbers: for the report alone."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from pcb.config.loader import load_params, merge, parse_preset
from pcb.pipeline.job import Job
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import atomic, write_atomic
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer

PARAMS = Path(__file__).parents[2] / "params.yaml"
IMAGES = 24
HELD_OUT = 20
SMALL: dict[str, Any] = {
    "tokenizer": {"autoencoder": {"channels": 8, "latent_channels": 8, "codebook_size": 32}},
    "sampling": {"images": IMAGES, "shard_images": 16},
    "metrics": {"splits": 2, "kid_subset_size": 16},
    "likelihood": {"images": HELD_OUT},
}


def mini_pipeline(change: Mapping[str, Any] | None = None) -> Pipeline:
    """Return the tasks of the miniature with few images and a tiny tokenizer."""
    params = load_params(PARAMS)
    presets = params["presets"]
    presets["mini"] = merge(merge(presets["mini"], SMALL), change or {})
    return Pipeline("mini", parse_preset(params, "mini"))


def make_results(pipeline: Pipeline, without: Sequence[str] = ()) -> None:
    """Make all tasks but the report, and but those whose name begins with one of `without`."""
    for task in pipeline:
        if not task.in_git and not task.name.startswith(tuple(without)):
            run_task(task, pipeline.preset, ENTRIES[task.stage])


def fake_fid(ratio: float, steps: int, cfg: float) -> float:
    """Fall with steps and flatten, nearly the same for every ratio."""
    return (500 + 8 * ratio) * (1 + 2.5 * math.exp(-(steps - 2) / 3.5)) * (0.7 if cfg else 1)


def fake_nats(sizes: Sequence[int], steps: int) -> np.ndarray[Any, Any]:
    """Return the NLL of every scale of held-out images: a price that falls with steps to nothing.

    A scale's nats vary from image to image, and its price varies less.
    """
    random = np.random.default_rng(3)
    tokens = np.array([size * size for size in sizes])
    nats = tokens * (1 + 0.2 * random.random((HELD_OUT, 1)))
    noise = 1 + 0.1 * random.random((HELD_OUT, 1))
    return nats + 0.3 * tokens * noise * math.exp(-(steps - 3) / 2)


def _data(job: Job) -> dict[str, Any]:
    write_atomic(job.folder / "note.txt", "none")
    return {"train": 1347, "held_out": 450}


def _tokenizer(job: Job) -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer = Tokenizer(job.preset.tokenizer.autoencoder)
    save_file(tokenizer.state_dict(), job.folder / TOKENIZER_FILE)
    if job.preset.tokenizer.source == "released":
        return {"codes": 32}
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 3, 32, 32), dtype=np.uint8)
    _save(job.folder / "reconstructions.npy", pictures)
    lines = [[k, 2 / k, 1 / k, 0.1 / k, 8 + k / 50] for k in range(10, 500, 10)]
    names = ["iteration", "loss", "reconstruction", "commitment", "perplexity"]
    _write(job.folder / "log.csv", names, lines)
    sizes = job.preset.all_sizes
    usage = {str(size): 0.5 + 0.05 * size for size in sizes}
    return {"psnr": 22.31, "codebook_usage": usage, "perplexity": {str(s): 9.0 * s for s in sizes}}


def _reference(job: Job) -> dict[str, Any]:
    write_atomic(job.folder / "note.txt", "none")
    return {"accuracy": 0.9812}


def _tokens(job: Job) -> dict[str, Any]:
    for part, _ in job.task.partitions:
        write_atomic(job.folder / part / "note.txt", "none")
    return {"images": 1347}


def _train(job: Job) -> dict[str, Any]:
    model = job.task.model
    assert model is not None
    released = job.preset.models[model].released
    if released is not None:
        write_atomic(job.folder / "note.txt", "none")
        return {"parameters": 367_574_560, "released": released, "epoch": 204}
    sizes = job.preset.sizes(model)
    names = ["iteration", "epoch", "learning_rate", "loss", *(f"loss_{n}" for n in sizes)]
    lines = []
    for k in range(20, 1300, 20):
        losses = [1.5 + 1.9 * math.exp(-k / 400) + 0.15 * math.log(n) for n in sizes]
        lines.append([k, k / 21, 1e-3, sum(losses) / len(losses), *losses])
    _write(job.folder / "log.csv", names, lines)
    return {"parameters": 1_104_000, "iterations": 1280, "loss": lines[-1][3]}


def _sample(job: Job) -> dict[str, Any]:
    preset, model, config = job.preset, job.task.model, job.task.sampling_config
    assert model is not None and config is not None
    schedule = config.schedule(preset.sizes(model))
    codes = preset.tokenizer.autoencoder.codebook_size
    drawn = np.random.default_rng(1).integers(0, codes, (IMAGES, schedule.tokens))
    for shard, start in enumerate(range(0, IMAGES, preset.sampling.shard_images)):
        part = drawn[start : start + preset.sampling.shard_images].astype(np.uint16)
        _save(job.folder / f"codes-{shard:05d}.npy", part)
    scales = np.repeat(schedule.sizes, schedule.blocks_per_scale)
    lines = [[k, int(scale), 4, 2.5 / (1 + k / 9), 0.2 + k / 60] for k, scale in enumerate(scales)]
    _write(job.folder / "stats.csv", ["step", "scale", "tokens", "entropy", "probability"], lines)
    return {"images": IMAGES, "steps": schedule.steps, "seconds_per_image": 0.002 * schedule.steps}


def _metrics(job: Job) -> dict[str, Any]:
    model, config = job.task.model, job.task.sampling_config
    assert model is not None and config is not None
    steps = config.schedule(job.preset.sizes(model)).steps
    ratio = float(model.removeprefix("ratio").removesuffix("-unmixed"))
    fid = fake_fid(ratio, steps, config.cfg)
    write_atomic(job.folder / "metrics.json", "{}")
    return {
        "fid": fid,
        "fid_std": 0.02 * fid,
        "is": 2500 / fid,
        "precision": 0.5 + 0.01 * steps,
        "recall": 0.6,
        "kid": fid / 4000,
        "agreement": 0.81,
        "extractor": "classifier",
    }


def _likelihood(job: Job) -> dict[str, Any]:
    model, config = job.task.model, job.task.sampling_config
    assert model is not None and config is not None
    schedule = config.schedule(job.preset.sizes(model))
    nats = fake_nats(schedule.sizes, schedule.steps)
    with atomic(job.folder / "nll.npz") as hidden:
        np.savez(hidden, nll=nats)
    return {"images": HELD_OUT, "nats_per_image": float(nats.sum(1).mean())}


def _save(path: Path, array: np.ndarray[Any, Any]) -> None:
    with atomic(path) as hidden:
        np.save(hidden, array)


def _write(path: Path, names: Sequence[str], lines: Sequence[Sequence[float]]) -> None:
    with atomic(path) as hidden, hidden.open("w", newline="") as file:
        csv.writer(file).writerows([names, *lines])


ENTRIES = {
    "data": _data,
    "tokenizer": _tokenizer,
    "reference": _reference,
    "tokens": _tokens,
    "train": _train,
    "sample": _sample,
    "metrics": _metrics,
    "likelihood": _likelihood,
}
