"""Bit-exact results on a CPU for any batch size and number of threads.

Matrix products: rows are summed alike where there are `MIN_CPU_ROWS` or more and their number is a
multiple of `PACK`, since then no thread is left with fewer than a kernel takes at once. Seen with
MKL 2024.2: 1 to 3 rows always take another path, and so do 17 to 19 with 16 threads.

Attention: its kernel gives each thread a piece of one scratch buffer, whose alignment decides how
it sums; pieces are aligned where the number of queries is a multiple of `QUERIES`.

Exponentials: a thread computes the last elements of its share otherwise than those before, and
shares depend on the batch; what is not shared out has no such elements.

Letters: B images, R rows, N heads, L queries, M positions attended to, H head dim, C = N * H.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_CPU_ROWS = 16
"""A CPU matrix product of fewer rows than this may take another path, with another order of sums:
it is filled up, so that an image never depends on its batch. (MKL's own limit is four rows.)"""
PACK = 4
"""Rows of a product that a kernel takes at once."""
QUERIES = 16
"""Numbers of four bytes on a cache line."""

PIECE = 16_384
"""Elements that torch gives to one thread: it shares out 32,768 and more."""


def next_multiple(count: int, multiple: int) -> int:
    """Return the least multiple that is not below a number."""
    return -(-count // multiple) * multiple


def min_rows(device: torch.device) -> int:
    """Return the fewest rows that a matrix product on a device may have."""
    return MIN_CPU_ROWS if device.type == "cpu" else 1


def filled_up(part_B: Tensor, least: int) -> Tensor:
    """Return a batch's part with copies of its first image up to so many images."""
    missing = least - len(part_B)
    if missing <= 0:
        return part_B
    return torch.cat([part_B, part_B[:1].expand(missing, *part_B.shape[1:])])


def attend(
    q_RNLH: Tensor,
    k_RNMH: Tensor,
    v_RNMH: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return softmax(scale * q k) v over what a mask lets through, its heads in a row, (R, L, C).

    mask: (L, M), True where a query sees a position; None where all see all. Without a scale it is
    1 / sqrt(H).
    """
    queries = q_RNLH.shape[2]
    more = next_multiple(queries, QUERIES) - queries if q_RNLH.device.type == "cpu" else 0
    if more:
        q_RNLH = F.pad(q_RNLH, (0, 0, 0, more))
        mask = None if mask is None else F.pad(mask, (0, 0, 0, more), value=True)
    out = F.scaled_dot_product_attention(q_RNLH, k_RNMH, v_RNMH, attn_mask=mask, scale=scale)
    return out[:, :, :queries].transpose(1, 2).flatten(2)


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return a function of every element, such as SiLU, of any shape."""
    if x.device.type != "cpu":
        return function(x)
    return torch.cat([function(piece) for piece in x.reshape(-1).split(PIECE)]).view_as(x)
