"""The token cache on disk: codes of every training image and crop, memory-mapped.

One folder per scale (`pcb.config.paths.token_part`), in it shards ``00000.npy``, uint16
(images, crops, size, size), in the order of the images; beside the folders ``labels.npy``. Codes
of held-out images stand in folders of their own (`pcb.config.paths.held_out_part`), each with its
labels: no training reads them, whatever becomes of them.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pcb.config.paths import held_out_part, token_part
from pcb.data.arrays import map_array
from pcb.data.images import Split
from pcb.errors import UserError
from pcb.runtime.atomic import whole_files

LABELS = "labels.npy"
SHARDS = "[0-9]*.npy"
"""Pattern of the names of shards."""
Shards: TypeAlias = Sequence[NDArray[np.uint16]]
"""Codes of one scale, (images, crops, size, size) each, in the order of the images."""


def token_folder(folder: Path, size: int, split: Split = "train") -> Path:
    """Return the folder of one scale of one split's codes."""
    return folder / (token_part if split == "train" else held_out_part)(size)


def token_shard(folder: Path, size: int, shard: int, split: Split = "train") -> Path:
    """Return the path of one shard of one scale."""
    return token_folder(folder, size, split) / f"{shard:05d}.npy"


class Codes(Protocol):
    """Codes of training images at some scales, wherever they come from."""

    sizes: tuple[int, ...]
    """Sides of the scales, coarse to fine."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) labels of the images, from 0 on."""

    @property
    def crops(self) -> int:
        """Number of crops of every image."""

    def codes(
        self, images: NDArray[np.int64], crops: NDArray[np.int64]
    ) -> dict[int, NDArray[np.int64]]:
        """Return the codes of one crop of each image: size -> int64 (B, size, size)."""


class TokenCache:
    """Codes of some scales, read from memory maps as they are asked for."""

    def __init__(self, labels: NDArray[np.int64], shards: Mapping[int, Shards]) -> None:
        """Hold the labels of all images, and by size the shards of their codes."""
        self.labels, self.sizes = labels, tuple(shards)
        self.shards = shards

    @classmethod
    def open(cls, folder: Path, sizes: Sequence[int], split: Split = "train") -> "TokenCache":
        """Open a cache. Raises UserError naming what is missing, or differs between scales."""
        beside = folder if split == "train" else token_folder(folder, sizes[-1], split)
        labels: NDArray[np.int64] = map_array(beside / LABELS, "tokens")
        shards = {size: open_shards(token_folder(folder, size, split), size) for size in sizes}
        counts = {len(labels), *(sum(map(len, maps)) for maps in shards.values())}
        if len(counts) > 1:
            raise UserError(
                f"{folder}: labels and scales hold different numbers of images "
                f"({', '.join(map(str, sorted(counts)))}); make the stage `tokens` again"
            )
        return cls(labels, shards)

    @cached_property
    def crops(self) -> int:
        """Number of crops of every image."""
        return int(self.shards[self.sizes[-1]][0].shape[1])

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Number of the first image of every shard."""
        lengths = [len(shard) for shard in self.shards[self.sizes[-1]]]
        return np.cumsum([0, *lengths])[:-1]

    def codes(
        self, images: NDArray[np.int64], crops: NDArray[np.int64]
    ) -> dict[int, NDArray[np.int64]]:
        """Return the codes of one crop of each image: size -> int64 (B, size, size)."""
        shards = np.searchsorted(self._starts, images, side="right") - 1
        places = images - self._starts[shards]
        codes = {}
        for size, maps in self.shards.items():
            grids = np.empty((len(images), size, size), dtype=np.int64)
            for shard in np.unique(shards):
                chosen = shards == shard
                grids[chosen] = maps[shard][places[chosen], crops[chosen]]
            codes[size] = grids
        return codes


def open_shards(folder: Path, size: int) -> Shards:
    """Open the memory maps of one scale. Raises UserError if there are none."""
    paths = whole_files(folder, SHARDS)
    if not paths:
        raise UserError(f"{folder}: no codes of scale {size}; make the stage `tokens` again")
    return [map_array(path, "tokens") for path in paths]
