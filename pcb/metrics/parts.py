"""Features of images from outside, kept part by part, so that an interrupted pass goes on.

The parts of an image set lie in a folder named by a hash of what they depend on: other images,
weights, batches, packages or another kind of device never find them.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

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

        Sums are added up part by part, interrupted or not: results are the same to the bit.
        """
        with self._locked(images):
            parts = self._parts(images)
            missing = {start: path for start, path in parts.items() if not self._is_whole(path)}
            left = sum(min(self._part_images, images.count - start) for start in missing)
            progress.skip(images.count - left)
            self._extract(images, missing, progress)
            return join_features(load_features(path, _origin(path)) for path in parts.values())

    def forget(self, images: ImageFiles) -> None:
        """Delete an image set's parts."""
        with self._locked(images):
            shutil.rmtree(self._home(images), ignore_errors=True)

    def _extract(self, images: ImageFiles, missing: Mapping[int, Path], progress: Progress) -> None:
        """Extract and write these parts, by the number of their first image."""
        batches: Iterator[Tensor] = iter(())
        reached = None
        for start, path in missing.items():
            # One pass over the files serves parts that follow each other.
            if start != reached:
                batches = tensors(images, self.batch, self.device, start)
            own = islice(batches, self._part_images // self.batch)
            save_features(path, extract(self.extractor, own, progress.advance), _origin(path))
            reached = start + self._part_images

    def _parts(self, images: ImageFiles) -> dict[int, Path]:
        """Return the paths of all parts, by the number of their first image."""
        home, starts = self._home(images), range(0, images.count, self._part_images)
        return {start: home / f"{number:05d}.npz" for number, start in enumerate(starts)}

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

    @staticmethod
    def _is_whole(path: Path) -> bool:
        """Say whether a part can be used; delete what is there but unreadable, or of elsewhere."""
        try:
            load_features(path, _origin(path))
        except FileNotFoundError:
            return False
        except Exception:  # Damage shows in as many ways as a zip file has fields.
            path.unlink()
            return False
        return True


def tensors(
    images: ImageFiles, batch: int, device: torch.device, start: int = 0
) -> Iterator[Tensor]:
    """Yield images from number `start` on as uint8 (B, 3, H, W) on a device."""
    for pixels in images.batches(batch, start):
        channels_first = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        yield send(torch.from_numpy(channels_first), device)


def _origin(path: Path) -> str:
    """Return what a part says of where it belongs: a copy from elsewhere says something else."""
    return f"{path.parent.name}/{path.name}"
