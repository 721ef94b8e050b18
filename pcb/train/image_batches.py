"""Batches of images for the tokenizer's trainings: one scale a batch (method section 3)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.data.arrays import from_uint8
from pcb.data.images import Images
from pcb.runtime.progress import Progress
from pcb.tokenizer.pyramid import resize_bilinear


def random_of(seed: int, stream: int, iteration: int) -> np.random.Generator:
    """Return an iteration's own generator, so that a resumed run repeats an unbroken one."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, iteration, 0, 0]))


def draw_scale(random: np.random.Generator, scales: Sequence[int], probability: float) -> int:
    """Return a scale that is uniform with this probability, and the finest (last) otherwise."""
    if random.random() < probability:
        return scales[int(random.integers(len(scales)))]
    return scales[-1]


def draw_images(
    random: np.random.Generator, images: Images, count: int, device: torch.device
) -> Tensor:
    """Return random crops of random images, in [-1, 1]."""
    chosen = random.integers(len(images), size=count)
    crops = random.integers(images.crops, size=count)
    return from_uint8(torch.from_numpy(images.read(chosen, crops)).to(device))


def in_batches(
    images: Images, chosen: NDArray[np.int64], batch: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the first crop of each of these images: (`batch` or fewer, 3, H, W)."""
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        yield images.read(part, np.zeros_like(part))


def counted(
    batches: Iterable[NDArray[np.uint8]], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """Yield batches, and count the images of each when it has been dealt with."""
    for pixels in batches:
        yield pixels
        progress.advance(len(pixels))


def evenly(images: Images, count: int) -> NDArray[np.int64]:
    """Return `count` images, or all if there are fewer, evenly spread over their order."""
    count = min(count, len(images))
    return np.arange(count) * len(images) // max(1, count)


def at_scale(images_B3HW: Tensor, size: int, stride: int) -> Tensor:
    """Return images of a scale in the memory layout that convolutions are fastest with."""
    scaled = resize_bilinear(images_B3HW, stride * size)
    return scaled.contiguous(memory_format=torch.channels_last)
