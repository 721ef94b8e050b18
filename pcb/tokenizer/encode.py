"""Pixels to the codes of several scales, a batch at a time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.data.arrays import from_uint8
from pcb.runtime.device import send
from pcb.tokenizer.vq import Tokenizer


@torch.inference_mode()
def encode(
    tokenizer: Tokenizer, pixels: NDArray[np.uint8], sizes: Sequence[int]
) -> dict[int, Tensor]:
    """Return the codes of (B, 3, H, W) pixels at each size: size -> int64 (B, size, size).

    They are on the tokenizer's device; on a GPU nobody waits for them.

    The codes of an image do not depend on the others: exactly on a CPU, up to float rounding on a
    GPU.
    """
    images = from_uint8(send(torch.from_numpy(pixels), tokenizer.codebook.device))
    return tokenizer.codes(images, sizes)


def batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of `size` of the rows of arrays, the last one smaller."""
    rows = chain.from_iterable(images)
    while batch := list(islice(rows, size)):
        yield np.stack(batch)
