"""Crops of photographs that come with Python packages: ten pictures, a class each.

A picture is cut into square tiles, every third diagonal of which is held out. A crop lies in one
tile, shrunk by averaging whole squares of pixels: training and held-out images share no pixel,
whatever the shrinking, and are yet of the same places. Every crop is a function of (seed, split,
image, crop) alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcb.config import Photographs
from pcb.errors import UserError

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")
_STREAMS: dict[Split, int] = {"train": 0, "held_out": 1}
_UNIFORMS = 5
FILES: Mapping[str, tuple[str, str]] = {
    "brick": ("skimage", "data/brick.png"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "coins": ("skimage", "data/coins.png"),
    "tissue": ("skimage", "data/ihc.png"),
    "stars": ("skimage", "data/hubble_deep_field.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "cat": ("skimage", "data/chelsea.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
}
"""Class names to packages and files inside their wheels; the order is that of the labels."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Tiles of one split of one picture: uint8 (n, 3, side, side); corners (n, 2) in pixels."""

    pixels: NDArray[np.uint8]
    corners: NDArray[np.int64]


def load_picture(name: str) -> NDArray[np.uint8]:
    """Return a picture as RGB, (3, height, width). Raises UserError if its file is not there."""
    with Image.open(_file(name)) as picture:
        return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def _file(name: str) -> Path:
    """Return the path of a picture. Raises UserError if its file is not there."""
    package, file = FILES[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"data: the picture {name!r} comes with {package}, which is not installed")
    path = Path(spec.origin).parent / file
    if not path.exists():
        raise UserError(f"{path}: no such file; this version of {package} comes without it")
    return path


def cut(picture: NDArray[np.uint8], settings: Photographs, name: str) -> dict[Split, Tiles]:
    """Return a picture's tiles, split by split.

    Tile (row, column) is held out if row + column is `held_out_every` // 2 modulo it. What is left
    at the right and at the bottom is not used. Raises UserError if a split has no tile.
    """
    side, found = settings.tile, dict[Split, Tiles]()
    height, width = picture.shape[1:]
    for split, corners in _corners(height, width, settings).items():
        if not len(corners):
            raise UserError(
                f"data: tiles of {side} pixels, every {settings.held_out_every}th held out, leave "
                f"no {split.replace('_', '-')} tile of the picture {name!r}; set data.tile or "
                "data.held_out_every lower"
            )
        tiles = [picture[:, top : top + side, left : left + side] for top, left in corners]
        found[split] = Tiles(pixels=np.stack(tiles), corners=corners)
    return found


def _corners(height: int, width: int, settings: Photographs) -> dict[Split, NDArray[np.int64]]:
    """Return the corners of the tiles of a picture of this size, (n, 2), split by split."""
    rows, columns = height // settings.tile, width // settings.tile
    places = np.stack(np.divmod(np.arange(rows * columns), max(columns, 1)), axis=1)
    held = places.sum(1) % settings.held_out_every == settings.held_out_every // 2
    return {
        split: places[chosen] * settings.tile
        for split, chosen in zip(SPLITS, (~held, held), strict=True)
    }


def held_out_tiles(images: NDArray[np.int64], settings: Photographs) -> NDArray[np.int64]:
    """Return the tile of each of these held-out images, (n,), counted within its class.

    The class of image i is i modulo the number of classes.
    """
    counts = []
    for name in FILES:
        with Image.open(_file(name)) as picture:
            width, height = picture.size
        counts.append(len(_corners(height, width, settings)["held_out"]))
    return np.array(
        [
            window(image, 0, counts[image % settings.num_classes], "held_out", settings)[0]
            for image in images.tolist()
        ],
        dtype=np.int64,
    )


def crops_of(
    tiles: Mapping[int, Tiles],
    images: NDArray[np.int64],
    crops: NDArray[np.int64],
    split: Split,
    settings: Photographs,
) -> NDArray[np.uint8]:
    """Return (n, 3, size, size) images: crop `crops[i]` of image `images[i]`.

    `tiles` are those of the split by label. Image i has label i modulo the number of classes.
    """
    size = settings.image_size
    found = np.empty((len(images), 3, size, size), dtype=np.uint8)
    for place, (image, crop) in enumerate(zip(images.tolist(), crops.tolist(), strict=True)):
        own = tiles[image % settings.num_classes].pixels
        number, factor, top, left, mirrored = window(image, crop, len(own), split, settings)
        pixels = shrink(own[number], factor)[:, top : top + size, left : left + size]
        found[place] = pixels[:, :, ::-1] if mirrored else pixels
    return found


def window(
    image: int, crop: int, tiles: int, split: Split, settings: Photographs
) -> tuple[int, int, int, int, bool]:
    """Return where a crop lies: its tile, the shrinking, the corner in it, and if it is mirrored.

    Tiles, shrinkings and corners are equally likely.
    """
    # The generator counts up the first word: the others name the crop.
    generator = np.random.Generator(
        np.random.Philox(key=[settings.seed, _STREAMS[split]], counter=[0, image, crop, 0])
    )
    tile, factor, top, left, mirror = generator.random(_UNIFORMS).tolist()
    by = settings.shrink[int(factor * len(settings.shrink))]
    corners = settings.tile // by - settings.image_size + 1
    return int(tile * tiles), by, int(top * corners), int(left * corners), mirror < 0.5


def shrink(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return a (3, side, side) tile at 1 / factor of its side: the mean of each square."""
    side = pixels.shape[1] // factor
    means = pixels.reshape(3, side, factor, side, factor).mean((2, 4))
    return np.rint(means).astype(np.uint8)
