"""External images, batch by batch: a folder of PNG files, or one .npz in ADM's form.

Letters: n images, B of a batch, H W pixels.
"""

import math
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from pcb.errors import UserError
from pcb.metrics.png_headers import png_files, png_size
from pcb.runtime.file_kind import ZIP_ERRORS
from pcb.runtime.hashing import content_hash, file_record
from pcb.runtime.npz import npz_errors_explained

IMAGES = "arr_0"
LABELS = "arr_1"
_SKIPPED = 1 << 24
"""Bytes read at a time where they are not wanted."""


class Batches(Protocol):
    """``batches(B)`` yields uint8 (B, H, W, 3); the last batch may be smaller."""

    def __call__(self, size: int, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Yield the images from number `start` on."""


@dataclass(frozen=True)
class ImageFiles:
    """n images of one size that are read in order, as often as asked for."""

    path: Path
    count: int
    size: tuple[int, int]
    """H, W in pixels."""
    labels: NDArray[Any] | None
    """(n,) class of each image, where the file says it."""
    batches: Batches
    marks: Callable[[int, int], Any]
    """Returns plain data that is other for other images, of those from a number to another."""
    left_out: str = ""
    """What else the folder holds, in words."""

    @cached_property
    def identity(self) -> str:
        """Hash of the images, of a folder's by their names, sizes and times; found out once."""
        return content_hash(self.marks(0, self.count))


def open_images(path: Path) -> ImageFiles:
    """Open a folder of PNG files (order: by name, folders inside included) or an .npz.

    Raises UserError naming the file if it is missing, damaged or of another form; also while
    batches are read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        return _open_folder(path)
    if path.suffix.lower() == ".npz":
        return _open_npz(path)
    raise UserError(f"{path}: neither a folder of PNG files nor an .npz in ADM's form")


def _open_npz(path: Path) -> ImageFiles:
    """Open `arr_0` without reading it: 50,000 images of 256x256 are 9.8 GB."""
    try:
        with npz_errors_explained(path):
            with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES}.npy") as member:
                shape, dtype, in_order = _read_header(member)
            with np.load(path, allow_pickle=False) as file:
                labels = file[LABELS] if LABELS in file.files else None
    except KeyError:
        raise UserError(f"{path}: no array `{IMAGES}` in it, which holds ADM's images") from None
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise UserError(
            f"{path}: {IMAGES} is {dtype} {list(shape)} where uint8 [n, height, width, 3] is "
            "expected"
        )
    if not in_order:
        raise UserError(
            f"{path}: {IMAGES} is uint8 {list(shape)} column by column (Fortran order), so that no "
            "image can be read by itself; save `np.ascontiguousarray(images)` instead"
        )
    if labels is not None and labels.shape != shape[:1]:
        raise UserError(f"{path}: {LABELS} has shape {list(labels.shape)}, expected [{shape[0]}]")

    def batches(size: int, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES}.npy") as member:
            _read_header(member)
            _skip(member, start * math.prod(shape[1:]), path)
            for first in range(start, shape[0], size):
                part = (min(size, shape[0] - first), *shape[1:])
                yield np.frombuffer(_read(member, math.prod(part), path), np.uint8).reshape(part)

    def marks(start: int, stop: int) -> Any:
        whole = file_record(path).sha256
        return whole if stop - start == shape[0] else [whole, start, stop]

    return ImageFiles(path, shape[0], shape[1:3], labels, batches, marks)


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Read an array's header; return shape, type, and whether its rows follow each other."""
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read(member)
    return shape, dtype, not by_columns


def _read(member: IO[bytes], count: int, path: Path) -> bytes:
    """Read so many bytes, or raise UserError."""
    try:
        data = member.read(count)
    except ZIP_ERRORS as error:
        raise UserError(f"{path}: damaged ({error}); fetch or make it again") from None
    if len(data) < count:
        raise UserError(f"{path}: {IMAGES} ends too early; fetch or make it again")
    return data


def _skip(member: IO[bytes], count: int, path: Path) -> None:
    """Read so many bytes and drop them, or raise UserError: seeking may drop the checksum too."""
    for first in range(0, count, _SKIPPED):
        _read(member, min(_SKIPPED, count - first), path)


def _open_folder(folder: Path) -> ImageFiles:
    """List the PNG files and look at the headers of all; the first one says how large they are."""
    paths, others = png_files(folder)
    if not paths:
        raise UserError(f"{folder}: no .png file in it")
    # Reading waits for the disk, outside Python's lock.
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(png_size, paths))
    shape = sizes[0]
    for path, size in zip(paths, sizes, strict=True):
        if size != shape:
            raise UserError(
                f"{path}: {size[1]}x{size[0]} pixels, but {paths[0].name} has "
                f"{shape[1]}x{shape[0]}; all must have one size"
            )

    def batches(size: int, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        # Pillow decodes outside Python's lock.
        with ThreadPoolExecutor() as pool:
            for first in range(start, len(paths), size):
                yield np.stack(list(pool.map(_read_png, paths[first : first + size])))

    def marks(start: int, stop: int) -> list[tuple[str, int, int]]:
        return [_mark(path, folder) for path in paths[start:stop]]

    left_out = f"{others} files that are no .png" if others else ""
    return ImageFiles(folder, len(paths), shape, None, batches, marks, left_out)


def _mark(path: Path, folder: Path) -> tuple[str, int, int]:
    """Return a file's name, size and time: hashing so many files would take as long as reading."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: not a readable image ({error})") from None
    return path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns


def _read_png(path: Path) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3)."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything for a broken file.
        raise UserError(f"{path}: not a readable image ({error})") from None
