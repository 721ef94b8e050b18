"""Features of images from outside, kept part by part, so that an interrupted pass goes on.

The parts of an image set lie in a folder named by a hash of what they depend on: other images,
weights, batches, packages or another kind of device never find them.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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

        A part counts as there if its own images are unchanged, whatever became of the others. Sums
        are added up part by part, interrupted or not: results are the same to the bit.
        """
        with self._locked(images):
            write_atomic(self._record(images), self._belongs(images))
            parts = self._parts(images)
            missing = [part for part in parts if not self._is_whole(part)]
            left = sum(min(self._part_images, images.count - part.start) for part in missing)
            progress.skip(images.count - left)
            self._extract(images, missing, progress)
            joined = join_features(load_features(part.path, part.origin) for part in parts)
            self._drop_outdated(images)
            return joined

    def forget(self, images: ImageFiles) -> None:
        """Delete an image set's parts."""
        with self._locked(images):
            shutil.rmtree(self._home(images), ignore_errors=True)
            self._record(images).unlink(missing_ok=True)

    def _extract(self, images: ImageFiles, missing: Sequence["_Part"], progress: Progress) -> None:
        """Extract and write these parts."""
        batches: Iterator[Tensor] = iter(())
        reached = None
        for part in missing:
            # One pass over the files serves parts that follow each other.
            if part.start != reached:
                batches = tensors(images, self.batch, self.device, part.start)
            own = islice(batches, self._part_images // self.batch)
            save_features(part.path, extract(self.extractor, own, progress.advance), part.origin)
            reached = part.start + self._part_images

    def _parts(self, images: ImageFiles) -> list["_Part"]:
        """Return all parts in order."""
        home, step = self._home(images), self._part_images
        return [
            _Part(
                start=start,
                path=home / f"{number:05d}.npz",
                origin=self._hash([number, images.marks(start, min(start + step, images.count))]),
            )
            for number, start in enumerate(range(0, images.count, step))
        ]

    @property
    def _part_images(self) -> int:
        return -(-PART_IMAGES // self.batch) * self.batch

    def _hash(self, images: Any) -> str:
        """Return a hash of these images, as plain data, and of all that decides their features."""
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

    def _home(self, images: ImageFiles) -> Path:
        """Return the folder of an image set's parts."""
        return self.folder / self._hash(images.identity)

    def _record(self, images: ImageFiles) -> Path:
        """Return the file that says which place's images a folder of parts is of."""
        return self._home(images).with_suffix(".images")

    def _belongs(self, images: ImageFiles) -> str:
        """Return what that file says: the same for whatever images stand in that place."""
        return self._hash(str(images.path.resolve()))

    def _locked(self, images: ImageFiles) -> AbstractContextManager[None]:
        """Keep others from the same parts; whoever waited finds them made."""
        home = self._home(images)
        waiting = f"{images.path}: another process reads it; waiting for that"
        return hold(home.with_suffix(".lock"), waiting)

    def _is_whole(self, part: "_Part") -> bool:
        """Say whether a part can be used; delete what is there but unreadable, or of elsewhere.

        A part of the same images that stands with an earlier state of the set is taken over.
        """
        if _is_of(part.path, part.origin):
            return True
        part.path.unlink(missing_ok=True)
        for other in sorted(self.folder.glob(f"*/{part.path.name}")):
            if _is_of(other, part.origin):
                with atomic(part.path) as hidden:
                    shutil.copyfile(other, hidden)
                return True
        return False

    def _drop_outdated(self, images: ImageFiles) -> None:
        """Delete the parts of earlier states of an image set, all of which is there now."""
        own = self._record(images)
        for record in self.folder.glob("*.images"):
            if record == own or record.read_text(encoding="utf-8") != self._belongs(images):
                continue
            if not is_held(record.with_suffix(".lock")):
                shutil.rmtree(record.with_suffix(""), ignore_errors=True)
                record.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One part of an image set's features."""

    start: int
    """Number of its first image."""
    path: Path
    origin: str
    """What the file must say: a hash of its images and of all that decides their features."""


def _is_of(path: Path, origin: str) -> bool:
    """Say whether a file holds whole features of this origin."""
    try:
        load_features(path, origin)
    except Exception:  # Damage shows in as many ways as a zip file has fields.
        return False
    return True


def tensors(
    images: ImageFiles, batch: int, device: torch.device, start: int = 0
) -> Iterator[Tensor]:
    """Yield images from number `start` on as uint8 (B, 3, H, W) on a device."""
    for pixels in images.batches(batch, start):
        channels_first = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        yield send(torch.from_numpy(channels_first), device)
