"""Images as stages read them, whatever they are made from.

Each image has some crops - up to ten of a file, or as many renderings of a digit - of which
training draws one each time. Held-out images, which no model sees, have one.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pcb.config import Files, ImageFolder, ImageNet, Preset
from pcb.data.arrays import map_array
from pcb.data.file_images import FileImages
from pcb.data.folder import folder_root
from pcb.data.index import read_index
from pcb.data.tree import tree_root

Split = Literal["train", "held_out"]

TRAIN_IMAGES = "train_images.npy"
TRAIN_LABELS = "train_labels.npy"
REFERENCE_IMAGES = "reference_images.npy"
REFERENCE_LABELS = "reference_labels.npy"
TRAIN_INDEX = "train.csv"
VALIDATION_INDEX = "validation.csv"
_KEPT = 2**30
"""Bytes of a folder's images that a process keeps in memory once they are decoded."""


class Images(Protocol):
    """Images of one split: labels, and pixels 0..255 of any of their crops."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) labels, from 0 on."""

    @property
    def crops(self) -> int:
        """Number of crops of every image."""

    def __len__(self) -> int:
        """Return the number of images."""

    def read(self, images: NDArray[np.int64], crops: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return one crop of each of these images: (B, 3, H, W)."""

    def all_crops(self, images: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield all crops of each of these images in turn: (crops, 3, H, W)."""


class ArrayImages:
    """Images in an array, in memory or mapped into it."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        """Take uint8 (n, crops, 3, H, W) and the labels (n,)."""
        self.pixels = pixels
        self.labels = labels

    @property
    def crops(self) -> int:
        """Number of crops of every image."""
        return self.pixels.shape[1]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, images: NDArray[np.int64], crops: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return one crop of each of these images: (B, 3, H, W)."""
        return self.pixels[images, crops]

    def all_crops(self, images: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield all crops of each of these images in turn: (crops, 3, H, W)."""
        return (self.pixels[image] for image in images)


class ChosenImages:
    """Some of the images of a split, as a split of their own."""

    def __init__(self, images: Images, chosen: NDArray[np.int64]) -> None:
        self.images = images
        self.chosen = chosen

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) labels, from 0 on."""
        return self.images.labels[self.chosen]

    @property
    def crops(self) -> int:
        """Number of crops of every image."""
        return self.images.crops

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, images: NDArray[np.int64], crops: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return one crop of each of these images: (B, 3, H, W)."""
        return self.images.read(self.chosen[images], crops)

    def all_crops(self, images: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield all crops of each of these images in turn: (crops, 3, H, W)."""
        return self.images.all_crops(int(self.chosen[image]) for image in images)


def class_by_class(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the indices, ascending, of `count` images: the first of every class, the second, ...

    A few images then have the classes of all of them, in whatever order these stand.
    """
    ranks = np.empty_like(labels)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, ranks))[:count])


def open_images(folder: Path, preset: Preset, split: Split) -> Images:
    """Open a split of the images that the stage `data` made or found, whose artifact is `folder`.

    ImageNet's held-out images are its validation images, none if it was indexed without. Raises
    UserError naming a file that is missing.
    """
    data, files = preset.data, preset.files
    if not isinstance(data, ImageNet | ImageFolder):
        if split == "train":
            return ArrayImages(
                map_array(folder / TRAIN_IMAGES, "data"), map_array(folder / TRAIN_LABELS, "data")
            )
        pixels = map_array(folder / REFERENCE_IMAGES, "data")
        return ArrayImages(pixels[:, None], map_array(folder / REFERENCE_LABELS, "data"))
    train = split == "train"
    index = read_index(folder / (TRAIN_INDEX if train else VALIDATION_INDEX))
    return FileImages(
        # Where there is nothing to read, it need not lie anywhere.
        _root(data, files, train=train) if len(index) else Path(),
        index,
        side=data.side if train else data.image_size,
        size=data.image_size,
        crops=data.crops if train else 1,
        workers=preset.compute.workers,
        keep=_KEPT if isinstance(data, ImageFolder) else 0,
    )


def _root(data: ImageNet | ImageFolder, files: Files, *, train: bool) -> Path:
    """Return the folder below which the paths of a split's index stand."""
    if isinstance(data, ImageFolder):
        return folder_root(data)
    if train:
        return tree_root(files.imagenet, "files.imagenet")
    return tree_root(files.imagenet_validation, "files.imagenet_validation")


def first_images(images: Images, count: int) -> NDArray[np.uint8]:
    """Return the first crop of the first `count` images, or of all if there are fewer."""
    chosen = np.arange(min(count, len(images)))
    return images.read(chosen, np.zeros_like(chosen))
