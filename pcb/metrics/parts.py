"""Features of images, kept part by part, so that an interrupted pass resumes.

The parts of external images lie in a folder named by a hash of what they depend on: other images,
weights, batches, packages or another kind of device never find them.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcb.config import Compute
from pcb.metrics.features import (
    Extractor,
    Features,
    extract,
    join_features,
    load_features,
    save_features,
)
from pcb.metrics.image_files import ImageFiles
from pcb.runtime.device import send
from pcb.runtime.environment import FEATURE_PACKAGES, package_versions
from pcb.runtime.hashing import content_hash
from pcb.runtime.lock import hold
from pcb.runtime.progress import Progress

PART_IMAGES = 5000
"""Images of a part, rounded up to whole batches, so that batches are those of a single pass."""
VERSION = 1
"""Raised when extractors of this package see other features by the same weights."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some images, and the file that keeps what is seen of them."""

    path: Path
    images: int
    batches: Callable[[], Iterable[Tensor]]
    """Returns the images as uint8 (B, 3, H, W) on the extractor's device."""

    @property
    def origin(self) -> str:
        """What its file says of where it belongs: a copy from elsewhere says something else."""
        return f"{self.path.parent.name}/{self.path.name}"

    def is_whole(self) -> bool:
        """Say whether its file can be used; delete one that is unreadable, or of elsewhere."""
        try:
            load_features(self.path, self.origin)
        except FileNotFoundError:
            return False
        except Exception:  # Damage shows in as many ways as a zip file has fields.
            self.path.unlink()
            return False
        return True


def fill_parts(
    parts: Sequence[Part],
    extractor: Extractor,
    progress: Progress,
    prefetch: int = Compute().prefetch,
) -> None:
    """Extract the parts that are not there, one file after the other."""
    missing = [part for part in parts if not part.is_whole()]
    progress.skip(sum(part.images for part in parts) - sum(part.images for part in missing))
    for part in missing:
        found = extract(extractor, part.batches(), progress.advance, prefetch)
        save_features(part.path, found, part.origin)


def read_parts(parts: Sequence[Part]) -> Features:
    """Return the features of all images of parts that are there.

    Sums are added up part by part, interrupted or not: results are the same to the bit.
    """
    return join_features(load_features(part.path, part.origin) for part in parts)


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """How images are seen, and where what was seen of them is kept."""

    extractor: Extractor
    weights: str
    """SHA-256 of the file of the extractor's weights."""
    batch: int
    device: torch.device
    folder: Path
    """Holds a folder of parts for each image set."""

    def run(self, images: ImageFiles, progress: Progress) -> Features:
        """Return the features of all images; parts that are there are not extracted again."""
        with self._locked(images):
            parts = self._parts(images)
            fill_parts(parts, self.extractor, progress)
            return read_parts(parts)

    def forget(self, images: ImageFiles) -> None:
        """Delete an image set's parts."""
        with self._locked(images):
            shutil.rmtree(self._home(images), ignore_errors=True)

    def _parts(self, images: ImageFiles) -> list[Part]:
        """Return all parts."""
        home, size = self._home(images), self._part_images
        reader = _Reader(images, self.batch, self.device)
        return [
            Part(
                path=home / f"{number:05d}.npz",
                images=min(size, images.count - start),
                batches=partial(reader.batches, start, size // self.batch),
            )
            for number, start in enumerate(range(0, images.count, size))
        ]

    @property
    def _part_images(self) -> int:
        return -(-PART_IMAGES // self.batch) * self.batch

    def _home(self, images: ImageFiles) -> Path:
        """Return the folder of an image set's parts."""
        versions = package_versions()
        depends_on = {
            "version": VERSION,
            "images": images.identity,
            "weights": self.weights,
            "batch": self.batch,
            "part": self._part_images,
            "device": self.device.type,
            "packages": [versions.get(name) for name in FEATURE_PACKAGES],
        }
        return self.folder / content_hash(depends_on)

    def _locked(self, images: ImageFiles) -> AbstractContextManager[None]:
        """Keep others from the same parts; whoever waited finds them made."""
        home = self._home(images)
        waiting = f"{images.path}: another process reads it; waiting for that"
        return hold(home.with_suffix(".lock"), waiting)


class _Reader:
    """Batches of image files from any place; one pass serves parts that follow each other."""

    def __init__(self, images: ImageFiles, batch: int, device: torch.device) -> None:
        self._open = partial(tensors, images, batch, device)
        self._batch = batch
        self._reached: int | None = None
        self._pass: Iterator[Tensor] = iter(())

    def batches(self, start: int, count: int) -> Iterator[Tensor]:
        """Return the next `count` batches, or what there is, from image `start` on."""
        if start != self._reached:
            self._pass = self._open(start)
        self._reached = start + count * self._batch
        return islice(self._pass, count)


def tensors(
    images: ImageFiles, batch: int, device: torch.device, start: int = 0
) -> Iterator[Tensor]:
    """Yield images from number `start` on as uint8 (B, 3, H, W) on a device."""
    for pixels in images.batches(batch, start):
        channels_first = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        yield send(torch.from_numpy(channels_first), device)
