"""A finished model without training: the artifacts that `smoke`'s stages would leave, at random."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pcb.metrics.classifier import WEIGHTS as CLASSIFIER
from pcb.metrics.classifier import Classifier, classify
from pcb.metrics.statistics import statistics_of
from pcb.metrics.target import Target, save_target
from pcb.model.transformer import Transformer
from pcb.model.weights import WEIGHTS
from pcb.pipeline.job import Job, entry_of
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer

MODEL, CONFIG = "ratio2", "ratio2/t17"


def make_project(pipeline: Pipeline) -> None:
    """Make everything up to the metrics of one sampling config, in the working directory.

    Weights are random; samples and metrics are made by their own stages.
    """
    preset = pipeline.preset
    torch.manual_seed(0)
    tokenizer = Tokenizer(preset.tokenizer.autoencoder)
    for stage, entry in (
        ("data", _nothing),
        ("tokenizer", lambda job: _save(tokenizer, job.folder / TOKENIZER_FILE)),
        ("reference", _reference),
        ("tokens", _partitions),
    ):
        run_task(pipeline.task(stage), preset, entry)

    def train(job: Job) -> dict[str, int]:
        model = Transformer(
            preset.models[MODEL].model,
            preset.sizes(MODEL),
            preset.data.num_classes,
            tokenizer.codebook,
        )
        torch.nn.init.normal_(model.head.weight, std=0.3)
        return _save(model, job.folder / WEIGHTS)

    run_task(pipeline.task("train", MODEL), preset, train)
    for stage in ("sample", "metrics"):
        run_task(pipeline.task(stage, CONFIG), preset, entry_of(stage))


def codes_of(pipeline: Pipeline) -> np.ndarray:
    """Return the codes of the sample set."""
    shards = sorted(pipeline.task("sample", CONFIG).artifact.glob("codes-*.npy"))
    return np.concatenate([np.load(path) for path in shards])


def _save(module: torch.nn.Module, path: Path) -> dict[str, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: x.contiguous() for k, x in module.state_dict().items()}, path)
    return {}


def _nothing(job: Job) -> dict[str, int]:
    return {}


def _partitions(job: Job) -> dict[str, int]:
    for name, key in job.task.partitions:
        (job.folder / name).mkdir(parents=True)
        (job.folder / name / "key.txt").write_text(key)
    return {}


def _reference(job: Job) -> dict[str, int]:
    classifier = Classifier(10, 8).eval()
    torch.nn.init.constant_(classifier.body[-1][1].weight, 20)
    _save(classifier, job.folder / CLASSIFIER)
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
    features, _ = classify(classifier, images, 64)
    save_target(job.folder, Target(features, statistics_of(features)))
    return {}
