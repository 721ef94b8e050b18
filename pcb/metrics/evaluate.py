"""`pcb evaluate`: any model's samples under the paper's protocol (method section 7)."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from pcb.config import Compute, Metrics
from pcb.config.loader import plain
from pcb.config.paths import EVALUATIONS
from pcb.errors import UserError
from pcb.metrics.adm import adm_target, check_statistics
from pcb.metrics.fidelity import scores
from pcb.metrics.image_files import ImageFiles, open_images
from pcb.metrics.inception import load_inception
from pcb.metrics.inception_score import label_warning, order_warning
from pcb.metrics.parts import Extraction
from pcb.runtime.device import compute_exactly, pick_device
from pcb.runtime.environment import package_versions
from pcb.runtime.hashing import file_record
from pcb.runtime.progress import Progress

PROTOCOL = Metrics(extractor="inception")
SPLIT_IMAGES = 5000
"""Images of a split of the protocol's Inception score."""
BATCH = 64
KEPT = EVALUATIONS
"""Features: the samples' until their scores are complete, the reference's for the next model."""


def evaluate(
    samples: Path, inception: Path, reference: Path, *, count: int, torch_fidelity: bool
) -> dict[str, Any]:
    """Return the scores of exactly `count` images, and what they were made from.

    samples: a folder of PNG files or an .npz in ADM's form; inception: torch-fidelity's weights;
    reference: ADM's .npz. Warns on stderr where the order of the images lowers the Inception score.
    Interrupted, the same call resumes with the features that it left.

    Raises UserError naming the file that is missing, damaged or of another form.
    """
    # Everything is opened before anything is computed.
    given, against = open_images(samples), open_images(reference)
    _check(given, against, count)
    check_statistics(reference)
    settings = protocol(count, against.count, torch_fidelity=torch_fidelity)
    labeled = given.labels is not None and _warn(label_warning(given.labels, settings.splits))
    device = pick_device(Compute())
    compute_exactly(device, torch.get_num_threads())
    extraction = Extraction(
        extractor=load_inception(inception, device),
        weights=file_record(inception).sha256,
        batch=BATCH,
        device=device,
        folder=KEPT,
    )
    with Progress("evaluate", "images", against.count + given.count) as progress:
        target = adm_target(extraction, against, progress)
        features = extraction.run(given, progress)
    if not labeled:
        _warn(order_warning(features.logits, settings.splits))
    print("evaluate: scoring, which takes minutes without a GPU", flush=True)
    found = scores(features, target, settings, device)
    if given.identity != against.identity:
        extraction.forget(given)
    return {
        "images": count,
        **found,
        "settings": plain(settings),
        "samples": _source(samples),
        "reference": _source(reference),
        "inception": _source(inception),
        "device": device.type,
        "packages": package_versions(),
    }


def protocol(count: int, reference_images: int, *, torch_fidelity: bool) -> Metrics:
    """Return ADM's settings for so many images.

    Fewer than a split of the Inception score are one split. Raises UserError if the images cannot
    be cut into splits of the protocol's size, or if there are too few for a metric.
    """
    splits, rest = divmod(count, SPLIT_IMAGES)
    if splits and rest:
        raise UserError(
            f"--count {count}: no multiple of {SPLIT_IMAGES}, the images of a split of the "
            "Inception score; give as many images as the protocol takes"
        )
    settings = msgspec.structs.replace(
        PROTOCOL,
        reference_images=reference_images,
        splits=max(splits, 1),
        kid_subset_size=min(PROTOCOL.kid_subset_size, count, reference_images),
        torch_fidelity=torch_fidelity,
    )
    try:
        settings.check_counts(count, reference_images)
    except ValueError as error:
        raise UserError(f"--count {count}: {error}") from None
    return settings


def _check(given: ImageFiles, against: ImageFiles, count: int) -> None:
    """Refuse another number of images than was named, and another size than the reference's."""
    if given.count != count:
        raise UserError(
            f"{given.path}: holds {given.count} images where {count} are expected; scores of "
            f"another number are not comparable: give {count}, or say --count {given.count}"
            f"{f' (beside them stand {given.left_out})' if given.left_out else ''}"
        )
    if given.size != against.size:
        sizes = [f"{height}x{width}" for height, width in (given.size, against.size)]
        raise UserError(
            f"{given.path}: images of {sizes[0]} pixels, but {against.path.name} has {sizes[1]}"
        )


def _warn(message: str | None) -> bool:
    """Print a warning, if there is one."""
    if message:
        print(f"pcb: warning: {message}", file=sys.stderr, flush=True)
    return bool(message)


def _source(path: Path) -> dict[str, str]:
    """Return a file's name and hash; of a folder the name alone."""
    hashed = {"sha256": file_record(path).sha256} if path.is_file() else {}
    return {"path": str(path), **hashed}
