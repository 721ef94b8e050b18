"""Latents of a finished encoder, for the training of a codebook: encoded as drawn, or once."""

# Shape suffixes: B batch, C code dim, h w token grid.

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.data.arrays import save_array
from pcb.data.images import Images
from pcb.runtime.atomic import whole_files
from pcb.runtime.progress import Progress
from pcb.tokenizer.vq import Tokenizer
from pcb.train.image_batches import at_scale, draw_images, random_of

CACHE = ".latents"
"""Folder of the cache, a temporary of its stage: gone when the stage is complete."""
PART = 256
"""Images per file of the cache."""


class Latents(Protocol):
    """Where a training gets its latents from."""

    def draw(self, random: np.random.Generator, size: int, count: int) -> Tensor:
        """Return the (count, C, size, size) unit vectors of random crops at a scale."""


@dataclass(frozen=True)
class EncodedLatents:
    """Latents that are encoded as they are drawn."""

    tokenizer: Tokenizer
    images: Images

    @torch.no_grad()
    def draw(self, random: np.random.Generator, size: int, count: int) -> Tensor:
        """Return the (count, C, size, size) unit vectors of random crops at a scale."""
        device = self.tokenizer.codebook.device
        images_B3HW = draw_images(random, self.images, count, device)
        return self.tokenizer.encode(at_scale(images_B3HW, size, self.tokenizer.stride))


class CachedLatents:
    """Latents of a fixed set of crops, read from memory maps as they are drawn.

    A file holds (images, positions of all scales, C) float32, the scales one after the other.
    """

    def __init__(
        self, parts: Sequence[NDArray[np.float32]], scales: Sequence[int], device: torch.device
    ) -> None:
        """Hold the files' content; all but the last have PART images."""
        self._parts = parts
        self._count = sum(map(len, parts))
        ends = np.cumsum([size * size for size in scales]).tolist()
        self._places = {
            size: slice(end - size * size, end) for size, end in zip(scales, ends, strict=True)
        }
        self._device = device

    @classmethod
    def open(cls, folder: Path, scales: Sequence[int], device: torch.device) -> "CachedLatents":
        """Open the cache that `fill_cache` left in a stage's folder."""
        paths = whole_files(folder / CACHE, "*.npy")
        return cls([np.load(path, mmap_mode="r") for path in paths], scales, device)

    def draw(self, random: np.random.Generator, size: int, count: int) -> Tensor:
        """Return the (count, C, size, size) unit vectors of random crops at a scale."""
        chosen = [divmod(int(k), PART) for k in random.integers(self._count, size=count)]
        rows = np.stack([self._parts[part][row, self._places[size]] for part, row in chosen])
        latents = torch.from_numpy(rows).to(self._device)
        return latents.transpose(1, 2).reshape(count, -1, size, size)


@torch.no_grad()
def fill_cache(
    folder: Path,
    tokenizer: Tokenizer,
    images: Images,
    scales: Sequence[int],
    *,
    seed: int,
    stream: int,
    batch: int,
    progress: Progress,
) -> None:
    """Encode `progress.total` random crops at every scale, file by file; those that are there stay.

    What a file holds depends on seed, stream and its number alone. Memory holds one file.
    """
    for number, start in enumerate(range(0, progress.total, PART)):
        path = folder / CACHE / f"{number:05d}.npy"
        count = min(PART, progress.total - start)
        if path.exists():
            progress.skip(count)
            continue
        pixels_B3HW = draw_images(
            random_of(seed, stream, number), images, count, tokenizer.codebook.device
        )
        found = []
        for part_B3HW in pixels_B3HW.split(batch):
            grids = [
                tokenizer.encode(at_scale(part_B3HW, size, tokenizer.stride)) for size in scales
            ]
            rows = torch.cat([grid.flatten(2) for grid in grids], dim=2).transpose(1, 2)
            found.append(rows.cpu().numpy())
            progress.advance(len(part_B3HW))
        save_array(path, np.concatenate(found))
