"""`pcb evaluate --preset`: external images under the protocol of a preset's own samples.

The batches are those of the stage `metrics`, so that a sample set that was exported gets the
numbers of its manifest to the last digit.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcb.config import Preset
from pcb.config.loader import plain
from pcb.config.paths import EVALUATIONS
from pcb.errors import UserError
from pcb.metrics.extractor import load_extractor
from pcb.metrics.fidelity import scores
from pcb.metrics.image_files import ImageFiles, open_images
from pcb.metrics.parts import Part, fill_parts, read_parts
from pcb.metrics.target import load_target
from pcb.runtime.device import compute_exactly, pick_device, send
from pcb.runtime.environment import FEATURE_PACKAGES, package_versions
from pcb.runtime.hashing import content_hash
from pcb.runtime.progress import Progress


def evaluate_by_preset(
    samples: Path, preset: Preset, reference: Path, reference_content: str
) -> dict[str, Any]:
    """Return the scores of as many images as the preset samples.

    samples: a folder of PNG files or an .npz in ADM's form; reference: the artifact of the preset's
    stage `reference`, reference_content: what its manifest says that it holds. Interrupted, the
    same call resumes with the features that it left.

    Raises UserError naming the file that is missing, damaged or of another form.
    """
    given = open_images(samples)
    _check(given, preset)
    device = pick_device(preset.compute)
    compute_exactly(device, 1)
    extractor = load_extractor(preset.metrics.extractor, reference, device)
    parts = _parts(given, preset, device, reference_content)
    with Progress("evaluate", "images", given.count) as progress:
        fill_parts(parts, extractor, progress, preset.compute.prefetch)
    features = read_parts(parts)
    found = scores(features, load_target(reference), preset.metrics, device)
    shutil.rmtree(parts[0].path.parent)
    return {
        "images": given.count,
        **found,
        "settings": plain(preset.metrics),
        "samples": str(samples),
        "reference": reference_content,
        "device": device.type,
        "packages": package_versions(),
    }


def _check(given: ImageFiles, preset: Preset) -> None:
    """Refuse another number of images than the preset's, and another size."""
    wanted, side = preset.sampling.images, preset.data.image_size
    if given.count != wanted:
        raise UserError(
            f"{given.path}: holds {given.count} images where sampling.images = {wanted}; scores of "
            "another number are not comparable"
        )
    if given.size != (side, side):
        height, width = given.size
        raise UserError(
            f"{given.path}: images of {height}x{width} pixels where data.image_size = {side}"
        )


def _parts(given: ImageFiles, preset: Preset, device: torch.device, reference: str) -> list[Part]:
    """Return a part of features for each shard that the images would have as samples."""
    size, batch = preset.sampling.shard_images, preset.compute.feature_batch
    versions = {name: package_versions().get(name) for name in FEATURE_PACKAGES}
    made_from = [given.identity, reference, size, batch, device.type, versions]
    folder = EVALUATIONS / content_hash(made_from)
    return [
        Part(
            path=folder / f"{start // size:05d}.npz",
            images=min(size, given.count - start),
            batches=partial(_batches, given, start, min(start + size, given.count), batch, device),
        )
        for start in range(0, given.count, size)
    ]


def _batches(
    given: ImageFiles, start: int, stop: int, batch: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the images of a part as uint8 (B, 3, H, W)."""
    count = -(-(stop - start) // batch)
    for first, images in zip(
        range(start, stop, batch), islice(given.batches(batch, start), count), strict=True
    ):
        # In memory channels come last, as in what the decoder makes: of another layout a
        # convolution rounds otherwise.
        pixels = torch.from_numpy(images[: stop - first].copy())
        yield send(pixels.permute(0, 3, 1, 2), device)
