"""The stage `reference`: what samples are compared with, seen through the preset's extractor.

It leaves the extractor's weights too, so that every setting is measured by the same ones.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pcb.config import Preset
from pcb.errors import UserError
from pcb.external.files import external_file, external_sha256
from pcb.metrics.adm import adm_target
from pcb.metrics.extractor import INCEPTION_WEIGHTS, load_extractor
from pcb.metrics.image_files import open_images
from pcb.metrics.parts import Extraction
from pcb.metrics.target import save_target
from pcb.pipeline.job import Job
from pcb.runtime.atomic import atomic
from pcb.runtime.device import compute_exactly, forbid_tf32, pick_device
from pcb.runtime.progress import Progress
from pcb.train.classifier import build as build_classifier

PARTS = ".parts"
"""Features of an interrupted run; hidden, so that they go when the stage is complete."""


def run(job: Job) -> dict[str, Any]:
    """Make the extractor and its view of the reference images."""
    preset = job.preset
    device = pick_device(preset.compute)
    # One thread, as for every stage that the workflow runs beside others (`pcb.pipeline.stages`).
    compute_exactly(device, 1)
    if preset.metrics.extractor != "classifier":
        return build_inception(preset, device, job.folder, job.progress)
    assert preset.classifier is not None
    with job.progress("iterations", preset.classifier.iterations) as progress:
        return build_classifier(
            preset.classifier,
            job.inputs["data"],
            job.folder,
            num_classes=preset.data.num_classes,
            batch=preset.compute.feature_batch,
            device=device,
            progress=progress,
        )


def build_inception(
    preset: Preset, device: torch.device, folder: Path, progress: Callable[[str, int], Progress]
) -> dict[str, Any]:
    """Read ADM's reference file; keep its statistics and its images' features.

    Raises UserError if a file is missing, damaged, or holds another number of images.
    """
    forbid_tf32()
    reference = open_images(external_file(preset.files, "adm-reference"))
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
