"""Images and codes at several scales, each independent of the others (paper, section 3).

Unlike VAR's, this pyramid has no residuals: every scale is the image itself, made smaller and
encoded. A scale is named by its size, the side of its grid of tokens.
"""

# Shape suffixes: B batch, C code dim, V codebook size, h w grid.

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from pcb.tokenizer.quantize import lookup, normalize


def resize_bilinear(x_BChw: Tensor, size: int) -> Tensor:
    """Resize to size x size: bilinear between pixel centers, no antialiasing."""
    if x_BChw.shape[-2:] == (size, size):
        return x_BChw
    return F.interpolate(x_BChw, size=(size, size), mode="bilinear", align_corners=False)


def upsample_codes(vectors_BChw: Tensor, size: int) -> Tensor:
    """Resize grids of code vectors to size x size and scale every position to length one."""
    return normalize(resize_bilinear(vectors_BChw, size), dim=1)


def image_pyramid(images_B3HW: Tensor, sizes: Sequence[int], stride: int) -> dict[int, Tensor]:
    """Return images of `stride` pixels per token for each size: size -> (B, 3, h, w)."""
    return {size: resize_bilinear(images_B3HW, stride * size) for size in sizes}


def conditioning(
    codes: Mapping[int, Tensor], codebook_VC: Tensor, sizes: Sequence[int]
) -> dict[int, Tensor]:
    """Return the conditioning latents of each scale: size -> (B, C, size, size).

    It is the previous scale's code vectors at this scale's size, and zeros for the first scale.
    `codes` maps each size to int64 (B, size, size); `sizes` go from coarse to fine.
    """
    first = sizes[0]
    latents = {first: codebook_VC.new_zeros(len(codes[first]), codebook_VC.shape[1], first, first)}
    for before, size in pairwise(sizes):
        latents[size] = upsample_codes(lookup(codes[before], codebook_VC), size)
    return latents
