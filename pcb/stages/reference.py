"""The stage `reference`: what samples are compared with, seen through the preset's extractor.

It leaves the extractor's weights too, so that every sampling config is measured by the same. The
miniature's extractor is trained and measured here.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcb.config import Preset
from pcb.data.images import Images, open_images
from pcb.errors import UserError
from pcb.external.files import external_file, external_sha256
from pcb.metrics.adm import adm_target
from pcb.metrics.classifier import WEIGHTS, Classifier, classify
from pcb.metrics.extractor import INCEPTION_WEIGHTS, load_extractor
from pcb.metrics.image_files import open_images as open_reference
from pcb.metrics.parts import Extraction
from pcb.metrics.statistics import statistics_of
from pcb.metrics.target import Target, save_target
from pcb.pipeline.job import Job
from pcb.runtime.atomic import atomic
from pcb.runtime.device import compute_exactly, pick_device
from pcb.runtime.progress import ShowProgress
from pcb.runtime.weights import save_weights
from pcb.train.classifier import ClassifierObjective
from pcb.train.image_batches import in_batches
from pcb.train.loop import Loop

PARTS = ".parts"
"""Features of an interrupted run; hidden, so that they go when the stage is complete."""


def run(job: Job) -> dict[str, Any]:
    """Make the extractor and its view of the reference images."""
    preset = job.preset
    device = pick_device(preset.compute)
    # One thread, as for every stage that the workflow runs beside others (`pcb.config.stages`).
    compute_exactly(device, 1)
    if preset.metrics.extractor == "classifier":
        data = job.inputs["data"]
        return build_classifier(preset, data, device, job.folder, job.progress)
    return build_inception(preset, device, job.folder, job.progress)


def build_classifier(
    preset: Preset,
    data: Path,
    device: torch.device,
    folder: Path,
    progress: ShowProgress,
) -> dict[str, Any]:
    """Train, measure on held-out images, and refuse a classifier that is not good enough.

    `data` is the artifact of the stage of that name, `folder` gets the weights and the view of the
    reference images.
    """
    settings, compute = preset.classifier, preset.compute
    assert settings is not None
    held_out = open_images(data, preset, "held_out")
    try:
        preset.metrics.check_counts(preset.sampling.images, len(held_out))
    except ValueError as error:
        raise UserError(f"reference: {error}; hold out more, or lower the setting") from None
    torch.manual_seed(settings.seed)
    classifier = Classifier(preset.data.num_classes, settings.features).to(device)
    objective = ClassifierObjective(
        classifier=classifier,
        images=open_images(data, preset, "train"),
        settings=settings,
    )
    loop = Loop(objective=objective, folder=folder, checkpoint_seconds=compute.checkpoint_seconds)
    loop.resume()
    with progress("iterations", settings.iterations) as counted:
        loop.run(counted)
    classifier.eval()
    features, classes = _seen(classifier, held_out, compute.feature_batch)
    accuracy = float((classes.numpy() == held_out.labels).mean())
    if accuracy < settings.min_accuracy:
        raise UserError(
            f"reference: held-out accuracy {accuracy:.3f} is below "
            f"classifier.min_accuracy = {settings.min_accuracy}; train it for more iterations, "
            "or lower that"
        )
    save_target(folder, Target(features, statistics_of(features)))
    save_weights(folder / WEIGHTS, classifier.state_dict())
    return {"accuracy": accuracy, "reference_images": len(held_out)}


def _seen(classifier: Classifier, images: Images, batch: int) -> tuple[Tensor, Tensor]:
    """Return features (n, F) of images, and the classes (n,) that the classifier takes them for."""
    batches = in_batches(images, np.arange(len(images)), batch)
    parts = [classify(classifier, torch.from_numpy(pixels), batch) for pixels in batches]
    features, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    return features, logits.argmax(1)


def build_inception(
    preset: Preset, device: torch.device, folder: Path, progress: ShowProgress
) -> dict[str, Any]:
    """Read ADM's reference file; keep its statistics and its images' features.

    Raises UserError if a file is missing, damaged, or holds another number of images.
    """
    reference = open_reference(external_file(preset.files, "adm-reference"))
    if reference.count != preset.metrics.reference_images:
        raise UserError(
            f"{reference.path}: holds {reference.count} images where metrics.reference_images = "
            f"{preset.metrics.reference_images}"
        )
    with atomic(folder / INCEPTION_WEIGHTS) as temporary:
        shutil.copyfile(external_file(preset.files, "inception"), temporary)
    weights = external_sha256(preset.files, "inception")
    extraction = Extraction(
        extractor=load_extractor("inception", folder, device),
        weights=weights,
        batch=preset.compute.feature_batch,
        device=device,
        folder=folder / PARTS,
    )
    with progress("images", reference.count) as counted:
        target = adm_target(extraction, reference, counted)
    save_target(folder, target)
    return {
        "reference_images": reference.count,
        "adm_reference_sha256": external_sha256(preset.files, "adm-reference"),
        "inception_sha256": weights,
    }
