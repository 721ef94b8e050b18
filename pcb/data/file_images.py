"""Images in files as stages read them, decoded on demand."""

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcb.data.crops import (
    UnreadableImageError,
    center_square,
    crop,
    decode_rgb,
    ignore_metadata_warnings,
)
from pcb.data.index import Index
from pcb.data.tree import read_file
from pcb.errors import UserError
from pcb.runtime.pool import in_order

_AHEAD = 2
"""Images per thread that are decoded before their turn."""


class FileImages:
    """Images in files, brought to (3, side, side) and cropped to (3, size, size).

    Threads decode: PIL works without Python's lock. The order is that of what is asked for.
    """

    def __init__(
        self,
        root: Path,
        index: Index,
        *,
        side: int,
        size: int,
        crops: int,
        workers: int,
        keep: int = 0,
    ) -> None:
        """Take the leading `crops` of the ten crops; where the sides are equal, all are the same.

        Labels and files come from the index, whose paths stand below `root`. Up to `keep` bytes of
        squares stay in memory, for images that are read many times.
        """
        ignore_metadata_warnings()
        self.root = root
        self.index = index
        self.side = side
        self.size = size
        self._crops = crops
        self._pool = ThreadPoolExecutor(workers, "decode")
        self._ahead = _AHEAD * workers
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._most_kept = keep // (3 * side * side)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) labels, from 0 on."""
        return self.index.labels

    @property
    def crops(self) -> int:
        """Number of crops of every image."""
        return self._crops

    def __len__(self) -> int:
        return len(self.index)

    def read(self, images: NDArray[np.int64], crops: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return one crop of each of these images: (B, 3, H, W).

        Raises UserError naming a file that is missing, changed or broken.
        """
        pixels = np.empty((len(images), 3, self.size, self.size), dtype=np.uint8)
        wanted = zip(images.tolist(), crops.tolist(), strict=True)
        for place, found in enumerate(in_order(self._pool, self._crop, wanted, self._ahead)):
            pixels[place] = found
        return pixels

    def all_crops(self, images: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield all crops of each of these images in turn: (crops, 3, H, W).

        Raises UserError as `read` does.
        """
        return in_order(self._pool, self._all, images, self._ahead)

    def square(self, image: int) -> NDArray[np.uint8]:
        """Return what an image is cropped from: (3, side, side)."""
        square = self._kept.get(image)
        if square is None:
            square = self._read_square(image)
            if len(self._kept) < self._most_kept:
                self._kept[image] = square
        return square

    def _read_square(self, image: int) -> NDArray[np.uint8]:
        file = self.index.file(image)
        data = read_file(self.root, file)
        if len(data) != file.bytes or zlib.crc32(data) != self.index.checksums[image]:
            raise UserError(
                f"{self.root / file.path}: not the file that the stage `data` has entered, its "
                f"content is another; restore it, or make the stage `data` again with --force"
            )
        try:
            return center_square(decode_rgb(data), self.side)
        except UnreadableImageError as error:
            raise UserError(
                f"{self.root / file.path}: cannot be decoded ({error}); replace it by a sound "
                f"copy, or remove it; then make the stage `data` again with --force"
            ) from None

    def _crop(self, wanted: tuple[int, int]) -> NDArray[np.uint8]:
        image, number = wanted
        return crop(self.square(image), self.size, number)

    def _all(self, image: int) -> NDArray[np.uint8]:
        square = self.square(image)
        return np.stack([crop(square, self.size, number) for number in range(self._crops)])
