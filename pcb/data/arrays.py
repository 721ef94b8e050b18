"""Arrays on disk, and pixels in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.errors import UserError
from pcb.runtime.atomic import atomic


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy, all or nothing."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name as .npz, all or nothing."""
    with atomic(path) as temporary:
        # NumPy's other keyword, a bool, is no array's name here.
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def map_array(path: Path, stage: str) -> NDArray[Any]:
    """Open an array as a memory map. Raises UserError naming the stage that makes it again."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the stage `{stage}` again") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); make the stage `{stage}` again") from None
    return array


def from_uint8(pixels: Tensor) -> Tensor:
    """Return pixels 0..255 as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [-1, 1], clamped and rounded, as pixels 0..255.

    paper: the released code truncates, which darkens every image by half a gray level.
    """
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
