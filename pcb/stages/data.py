"""The stage `data`: the images of a preset, made or found, those of training and held-out ones."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcb.config import Digits, ImageFolder, Photographs
from pcb.config.images import PICTURES
from pcb.data.arrays import save_array
from pcb.data.class_names import CLASSES
from pcb.data.digits import Glyphs, load_glyphs, render, split_indices
from pcb.data.folder import find_images, folder_root
from pcb.data.images import (
    REFERENCE_IMAGES,
    REFERENCE_LABELS,
    TRAIN_IMAGES,
    TRAIN_INDEX,
    TRAIN_LABELS,
    VALIDATION_INDEX,
)
from pcb.data.index import write_rows
from pcb.data.photographs import SPLITS, crops_of, cut, load_picture
from pcb.data.survey import enter, survey
from pcb.errors import UserError
from pcb.pipeline.job import Job
from pcb.runtime.progress import ShowProgress


def run(job: Job) -> dict[str, Any]:
    """Render digits, crop photographs, or index ImageNet or a folder of images."""
    settings = job.preset.data
    if isinstance(settings, Digits):
        return render_digits(settings, job.folder)
    if isinstance(settings, Photographs):
        return crop_photographs(settings, job.folder)
    if isinstance(settings, ImageFolder):
        workers = job.preset.compute.workers
        return index_folder(settings, job.folder, workers=workers, progress=job.progress)
    if job.preset.likelihood_sizes and job.preset.files.imagenet_validation is None:
        raise UserError(
            f"presets.{job.task.preset}.likelihood: there are no held-out images; let "
            "files.imagenet_validation name the validation images, or set `likelihood` to null"
        )
    return survey(
        job.preset.files,
        settings,
        job.folder,
        workers=job.preset.compute.workers,
        progress=job.progress,
    )


def index_folder(
    settings: ImageFolder, folder: Path, *, workers: int, progress: ShowProgress
) -> dict[str, Any]:
    """Index the images of a folder, and write the names of its classes."""
    root, found = folder_root(settings), find_images(settings)
    counts = enter(
        {TRAIN_INDEX: (root, found.train), VALIDATION_INDEX: (root, found.held_out)},
        folder,
        refused_fraction=settings.refused_fraction,
        workers=workers,
        progress=progress,
    )
    write_rows(folder / CLASSES, ("label", "name"), enumerate(found.classes))
    return {"classes": len(found.classes), **counts, "ignored_files": found.ignored}


def render_digits(settings: Digits, folder: Path) -> dict[str, Any]:
    """Write uint8 (n, renderings, 3, H, W) to train on, (m, 3, H, W) to compare with."""
    glyphs = load_glyphs()
    splits = split_indices(glyphs.labels, settings.held_out, settings.seed)
    train, held_out = (glyphs.take(splits[name]) for name in ("train", "held_out"))
    reference = reference_glyphs(held_out.labels, settings.reference_images)
    arrays: dict[str, NDArray[Any]] = {
        TRAIN_IMAGES: train_images(train, settings),
        TRAIN_LABELS: train.labels,
        REFERENCE_IMAGES: render(held_out, *reference, "held_out", settings),
        REFERENCE_LABELS: held_out.labels[reference[0]],
    }
    for name, array in arrays.items():
        save_array(folder / name, array)
    return {
        "digits": len(glyphs.labels),
        "train_digits": len(train.labels),
        "held_out_digits": len(held_out.labels),
        "train_images": len(train.labels) * settings.renderings,
        "reference_images": settings.reference_images,
    }


def crop_photographs(settings: Photographs, folder: Path) -> dict[str, Any]:
    """Write uint8 (n, crops, 3, H, W) to train on, (m, 3, H, W) to compare with.

    Raises UserError if a picture is missing, or so small that a split has none of its tiles.
    """
    cuts = [cut(load_picture(name), settings, name) for name in PICTURES]
    train, held_out = ({k: one[split] for k, one in enumerate(cuts)} for split in SPLITS)
    images, reference = np.arange(settings.images), np.arange(settings.reference_images)
    of_train = [
        crops_of(train, images, np.full_like(images, crop), "train", settings)
        for crop in range(settings.crops)
    ]
    of_reference = crops_of(held_out, reference, np.zeros_like(reference), "held_out", settings)
    arrays: dict[str, NDArray[Any]] = {
        TRAIN_IMAGES: np.stack(of_train, axis=1),
        TRAIN_LABELS: images % settings.num_classes,
        REFERENCE_IMAGES: of_reference,
        REFERENCE_LABELS: reference % settings.num_classes,
    }
    for name, array in arrays.items():
        save_array(folder / name, array)
    return {
        "pictures": len(cuts),
        "train_tiles": sum(len(tiles.corners) for tiles in train.values()),
        "held_out_tiles": sum(len(tiles.corners) for tiles in held_out.values()),
        "train_images": settings.images * settings.crops,
        "reference_images": settings.reference_images,
    }


def train_images(train: Glyphs, settings: Digits) -> NDArray[np.uint8]:
    """Return every rendering of every training digit: uint8 (n, renderings, 3, H, W)."""
    count, size = len(train.labels), settings.image_size
    images = np.empty((count, settings.renderings, 3, size, size), dtype=np.uint8)
    digits = np.arange(count)
    # One rendering of all digits at a time: rendering takes 50 times an image's final memory.
    for rendering in range(settings.renderings):
        images[:, rendering] = render(train, digits, np.full(count, rendering), "train", settings)
    return images


def reference_glyphs(
    labels: NDArray[np.int64], images: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose (digit, rendering) of each reference image: classes in turn, digits in turn inside.

    Classes are as balanced as those of the samples, whose labels go round too.
    """
    classes = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in classes]
    digits = np.empty(images, dtype=np.int64)
    renderings = np.empty(images, dtype=np.int64)
    for image in range(images):
        turn, which = divmod(image, len(classes))
        renderings[image], place = divmod(turn, len(members[which]))
        digits[image] = members[which][place]
    return digits, renderings
