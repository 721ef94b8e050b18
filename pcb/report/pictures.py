"""Sampled codes as pictures: finished images, and one image after every step of sampling."""

# Shape suffixes: B batch, T tokens of all scales, C code dim, h w token grid, H W pixels.

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pcb.data.arrays import to_uint8
from pcb.order.names import CHECKERBOARD
from pcb.order.orders import ranks_of
from pcb.order.schedule import Schedule, block_starts
from pcb.tokenizer.pyramid import upsample_codes
from pcb.tokenizer.quantize import lookup
from pcb.tokenizer.vq import Tokenizer


def split_scales(codes_BT: NDArray[np.int64], sizes: Sequence[int]) -> dict[int, Tensor]:
    """Cut codes of all scales, coarse to fine, into grids: size -> (B, size, size)."""
    ends = np.cumsum([size * size for size in sizes])[:-1]
    parts = np.split(codes_BT, ends, axis=1)
    return {
        size: torch.from_numpy(part).reshape(-1, size, size)
        for size, part in zip(sizes, parts, strict=True)
    }


@torch.inference_mode()
def decode_images(
    tokenizer: Tokenizer, codes_BT: NDArray[np.int64], sizes: Sequence[int]
) -> NDArray[np.uint8]:
    """Return the finest scale's images, uint8 (B, 3, H, W)."""
    finest = split_scales(codes_BT, sizes)[sizes[-1]].to(tokenizer.codebook.device)
    return to_uint8(tokenizer.decode(finest)).cpu().numpy()


@torch.inference_mode()
def sampling_frames(
    tokenizer: Tokenizer,
    codes_BT: NDArray[np.int64],
    schedule: Schedule,
    order: str = CHECKERBOARD,
) -> list[NDArray[np.uint8]]:
    """Return the images as they stand after every step, each uint8 (B, 3, H, W) of full size.

    order: the model's, one of `ORDER_NAMES`.

    A cell that is not sampled yet shows what the model knows of it: the scale before, upsampled; on
    the first scale, the mean code.
    """
    codes = split_scales(codes_BT, schedule.sizes)
    pixels, device = schedule.sizes[-1] * tokenizer.stride, tokenizer.codebook.device
    known_BChw = tokenizer.codebook.mean(0).view(1, -1, 1, 1)
    frames = []
    for size, blocks in zip(schedule.sizes, schedule.blocks, strict=True):
        vectors_BChw = lookup(codes[size].to(device), tokenizer.codebook)
        known_BChw = upsample_codes(known_BChw, size).expand_as(vectors_BChw)
        ranks_hw = torch.from_numpy(ranks_of(order, size)).to(device)
        for start, block in zip(block_starts(blocks), blocks, strict=True):
            seen_BChw = torch.where(ranks_hw < start + block, vectors_BChw, known_BChw)
            images = tokenizer.decode(seen_BChw)
            whole = F.interpolate(images, size=(pixels, pixels), mode="nearest")
            frames.append(to_uint8(whole).cpu().numpy())
        known_BChw = vectors_BChw
    return frames
