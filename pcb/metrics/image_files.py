"""Images from outside, batch by batch: a folder of PNG files, or one .npz in ADM's form.

Letters: n images, B of a batch, H W pixels.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pcb.atomic import whole_files
from pcb.errors import UserError

IMAGES = "arr_0"
LABELS = "arr_1"
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError)


@dataclass(frozen=True)
class ImageFiles:
    """n images of one size that are read in order, as often as asked for."""

    path: Path
    count: int
    size: tuple[int, int]
    """H, W in pixels."""
    labels: NDArray[Any] | None
    """(n,) class of each image, where the file says it."""
    batches: Callable[[int], Iterator[NDArray[np.uint8]]]
    """``batches(B)`` yields uint8 (B, H, W, 3); the last batch may be smaller."""


def open_images(path: Path) -> ImageFiles:
    """Open a folder of PNG files (order: by name, folders inside included) or an .npz.

    Raises UserError naming the file if it is missing, damaged or of another form; also while
    batches are read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        return _open_folder(path)
    if path.suffix == ".npz":
        return _open_npz(path)
    raise UserError(f"{path}: neither a folder of PNG files nor an .npz in ADM's form")


def _open_npz(path: Path) -> ImageFiles:
    """Open `arr_0` without reading it: 50,000 images of 256x256 are 9.8 GB."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES}.npy") as member:
            shape, dtype, in_order = _read_header(member)
        with np.load(path, allow_pickle=False) as file:
            labels = file[LABELS] if LABELS in file.files else None
    except KeyError:
        raise UserError(f"{path}: no array `{IMAGES}` in it, which holds ADM's images") from None
    except _DAMAGED as error:
        raise UserError(f"{path}: not a readable .npz ({error})") from None
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not in_order:
        raise UserError(
            f"{path}: {IMAGES} is {dtype} {list(shape)} where uint8 [n, height, width, 3] is "
            "expected"
        )
    if labels is not None and labels.shape != shape[:1]:
        raise UserError(f"{path}: {LABELS} has shape {list(labels.shape)}, expected [{shape[0]}]")

    def batches(size: int) -> Iterator[NDArray[np.uint8]]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES}.npy") as member:
            _read_header(member)
            for start in range(0, shape[0], size):
                part = (min(size, shape[0] - start), *shape[1:])
                yield np.frombuffer(_read(member, int(np.prod(part)), path), np.uint8).reshape(part)

    return ImageFiles(path, shape[0], shape[1:3], labels, batches)


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
    except _DAMAGED as error:
        raise UserError(f"{path}: damaged ({error}); fetch or make it again") from None
    if len(data) < count:
        raise UserError(f"{path}: {IMAGES} ends too early; fetch or make it again")
    return data


def _open_folder(folder: Path) -> ImageFiles:
    """List the PNG files; the first one says how large all are."""
    paths = whole_files(folder, "**/*.png")
    if not paths:
        raise UserError(f"{folder}: no .png file in it")
    size = _read_png(paths[0]).shape[:2]

    def read(path: Path) -> NDArray[np.uint8]:
        pixels = _read_png(path)
        if pixels.shape[:2] != size:
            raise UserError(
                f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, but {paths[0].name} has "
                f"{size[1]}x{size[0]}; all must have one size"
            )
        return pixels

    def batches(count: int) -> Iterator[NDArray[np.uint8]]:
        # Pillow decodes outside Python's lock.
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), count):
                yield np.stack(list(pool.map(read, paths[start : start + count])))

    return ImageFiles(folder, len(paths), size, None, batches)


def _read_png(path: Path) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3)."""
    try:
        with Image.open(path) as image:
            if image.mode != "RGB":
                raise UserError(f"{path}: mode {image.mode} where 8-bit RGB is expected")
            return np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a readable image ({error})") from None
