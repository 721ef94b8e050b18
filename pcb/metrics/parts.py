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
from typing import Any

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
from pcb.runtime.atomic import atomic, write_atomic
from pcb.runtime.device import send
from pcb.runtime.environment import FEATURE_PACKAGES, package_versions
from pcb.runtime.hashing import content_hash
from pcb.runtime.lock import hold, is_held
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
    depends_on: str = ""
    """Hash of these images and of how they are seen, where the path's own name is no such hash."""

    @property
    def origin(self) -> str:
        """What its file says of where it belongs: a copy from elsewhere says something else."""
        return self.depends_on or f"{self.path.parent.name}/{self.path.name}"

    def is_whole(self) -> bool:
        """Say whether its file can be used; delete one that is unreadable, or of elsewhere."""
        if self.is_held_by(self.path):
            return True
        self.path.unlink(missing_ok=True)
        return False

    def is_held_by(self, path: Path) -> bool:
        """Say whether a file holds this part, whole."""
        try:
            load_features(path, self.origin)
        except Exception:  # Damage shows in as many ways as a zip file has fields.
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
        """Return the features of all images; parts that are there are not extracted again.

        A part is there as long as its own images are unchanged, whatever became of the others.
        """
        with self._locked(images):
            write_atomic(self._record(images), self._place(images))
            parts = self._parts(images)
            for part in parts:
                self._take_over(part)
            fill_parts(parts, self.extractor, progress)
            found = read_parts(parts)
            self._drop_outdated(images)
            return found

    def forget(self, images: ImageFiles) -> None:
        """Delete an image set's parts."""
        with self._locked(images):
            shutil.rmtree(self._home(images), ignore_errors=True)
            self._record(images).unlink(missing_ok=True)

    def _take_over(self, part: Part) -> None:
        """Copy a part that stands with an earlier state of its image set, if one does."""
        if part.is_held_by(part.path):
            return
        for other in sorted(self.folder.glob(f"*/{part.path.name}")):
            if part.is_held_by(other):
                with atomic(part.path) as hidden:
                    shutil.copyfile(other, hidden)
                return

    def _drop_outdated(self, images: ImageFiles) -> None:
        """Delete the parts of earlier states of an image set, all of which is there now."""
        own, place = self._record(images), self._place(images)
        for record in self.folder.glob("*.images"):
            outdated = record != own and record.read_text(encoding="utf-8") == place
            if outdated and not is_held(record.with_suffix(".lock")):
                shutil.rmtree(record.with_suffix(""), ignore_errors=True)
                record.unlink(missing_ok=True)

    def _parts(self, images: ImageFiles) -> list[Part]:
        """Return all parts."""
        home, size = self._home(images), self._part_images
        reader = _Reader(images, self.batch, self.device)
        return [
            Part(
                path=home / f"{number:05d}.npz",
                images=min(size, images.count - start),
                batches=partial(reader.batches, start, size // self.batch),
                depends_on=self._hash(
                    [number, images.marks(start, min(start + size, images.count))]
                ),
            )
            for number, start in enumerate(range(0, images.count, size))
        ]

    @property
    def _part_images(self) -> int:
        return -(-PART_IMAGES // self.batch) * self.batch

    def _home(self, images: ImageFiles) -> Path:
        """Return the folder of an image set's parts."""
        return self.folder / self._hash(images.identity)

    def _record(self, images: ImageFiles) -> Path:
        """Return the file that says which place's images a folder of parts is of."""
        return self._home(images).with_suffix(".images")

    def _place(self, images: ImageFiles) -> str:
        """Return what that file says: the same for whatever images stand there."""
        return self._hash(str(images.path.resolve()))

    def _hash(self, images: Any) -> str:
        """Return a hash of images, as plain data says which, and of how they are seen."""
        versions = package_versions()
        depends_on = {
            "version": VERSION,
            "images": images,
            "weights": self.weights,
            "batch": self.batch,
            "part": self._part_images,
            "device": self.device.type,
            "packages": [versions.get(name) for name in FEATURE_PACKAGES],
        }
        return content_hash(depends_on)

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
