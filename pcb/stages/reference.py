"""The stage `reference`: what samples are compared with, seen through the preset's extractor.

It leaves the extractor's weights too, so that every setting is measured by the same ones.
"""

import shutil
from typing import Any

from pcb.errors import UserError
from pcb.external.files import external_file, external_sha256
from pcb.metrics.adm import adm_target
from pcb.metrics.extractor import INCEPTION_WEIGHTS, load_extractor
from pcb.metrics.image_files import open_images
from pcb.metrics.parts import Extraction
from pcb.metrics.target import save_target
from pcb.pipeline.run import Job
from pcb.runtime.atomic import atomic
from pcb.runtime.device import compute_exactly, forbid_tf32, pick_device
from pcb.train.classifier import build as build_classifier

PARTS = ".parts"
"""Features of an interrupted run; hidden, so that they go when the stage is complete."""


def build(job: Job) -> dict[str, Any]:
    """Make the extractor and its view of the reference images."""
    if job.preset.metrics.extractor == "classifier":
        return build_classifier(job)
    return build_inception(job)


def build_inception(job: Job) -> dict[str, Any]:
    """Read ADM's reference file; keep its statistics and its images' features.

    Raises UserError if a file is missing, damaged, or holds another number of images.
    """
    preset = job.preset
    device = pick_device(preset.compute)
    compute_exactly(device, 1)
    forbid_tf32()
    reference = open_images(external_file(preset.files, "adm-reference"))
    if reference.count != preset.metrics.reference_images:
        raise UserError(
            f"{reference.path}: holds {reference.count} images where metrics.reference_images = "
            f"{preset.metrics.reference_images}"
        )
    with atomic(job.folder / INCEPTION_WEIGHTS) as temporary:
        shutil.copyfile(external_file(preset.files, "inception"), temporary)
    weights = external_sha256(preset.files, "inception")
    extraction = Extraction(
        extractor=load_extractor("inception", job.folder, device),
        weights=weights,
        batch=preset.compute.feature_batch,
        device=device,
        folder=job.folder / PARTS,
    )
    with job.progress("images", reference.count) as progress:
        target = adm_target(extraction, reference, progress)
    save_target(job.folder, target)
    return {
        "reference_images": reference.count,
        "adm_reference_sha256": external_sha256(preset.files, "adm-reference"),
        "inception_sha256": weights,
    }
