"""Vectors to codes and back: the nearest unit vector of a codebook."""

# Shape suffixes: B batch, C code dim, V codebook size, h w grid, N rows.

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 4096
"""Rows compared with the codebook at a time: 64 MB of float32 for 4096 codes."""


def normalize(x: Tensor, dim: int) -> Tensor:
    """Scale the vectors along `dim` to length one; a zero vector stays zero."""
    return F.normalize(x, dim=dim)


def nearest_codes(latents_BChw: Tensor, codebook_VC: Tensor) -> Tensor:
    """Return the int64 (B, h, w) index of each position's nearest code.

    Latents and codes are unit vectors, for which |x - c|^2 = 2 - 2 x.c: the nearest code is the
    one with the largest inner product, the first of them if several are equal.
    """
    batch, _, height, width = latents_BChw.shape
    rows_NC = rows_of(latents_BChw)
    codes = [(part @ codebook_VC.T).argmax(dim=1) for part in rows_NC.split(_ROWS)]
    return torch.cat(codes).reshape(batch, height, width)


def lookup(codes_Bhw: Tensor, codebook_VC: Tensor) -> Tensor:
    """Return the (B, C, h, w) vectors of codes."""
    return F.embedding(codes_Bhw, codebook_VC).permute(0, 3, 1, 2)


def rows_of(x_BChw: Tensor) -> Tensor:
    """Return the vectors of all positions, in the order of their codes: (N, C)."""
    return x_BChw.permute(0, 2, 3, 1).reshape(-1, x_BChw.shape[1])
