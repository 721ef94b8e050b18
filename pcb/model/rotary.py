"""Learned rotary phases of every (scale, cell), and how keys mix two of them (method section 4).

Letters: R rows (tokens, class, null position), L positions, N heads, H head dim.
"""

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Phases:
    """Rotary phases of L positions, of queries and keys side by side: one call turns both.

    mixing: those of each mixing layer, whose keys every head has of its own: (L, 2, N, H, 2).
    shared: those of later layers, where both have the same: (L, 1, 1, H, 2).
    """

    mixing: tuple[Tensor, ...]
    shared: Tensor

    def of(self, layer: int) -> Tensor:
        """Return the phases of a layer."""
        return self.mixing[layer] if layer < len(self.mixing) else self.shared

    def at(self, positions: slice) -> "Phases":
        """Return those of some of the positions."""
        mixing = tuple(phases[positions] for phases in self.mixing)
        return Phases(mixing=mixing, shared=self.shared[positions])


class RotaryPhases(nn.Module):
    """One unit complex number per row and entry of a head, and mixing weights of the first layers.

    phases: (R, H, 2), real and imaginary part, normalized to unit modulus at use.
    mixing: (mixing layers, N), sigmoid gives the fraction of the current cell's phase; starts at 0.
    """

    def __init__(self, sizes: Items[int], head_dim: int, heads: int, mixing_layers: int) -> None:
        super().__init__()
        angles = initial_angles(sizes, head_dim)
        self.phases = nn.Parameter(torch.stack([angles.cos(), angles.sin()], dim=-1))
        # Of no layer it is empty and gets no gradient, for which ranks would wait.
        self.mixing = nn.Parameter(torch.zeros(mixing_layers, heads), bool(mixing_layers))

    def forward(self, rows_L: Tensor, previous_rows_L: Tensor) -> Phases:
        """Return the phases of tokens with these rows, and with these of previous-block tokens."""
        unit_RH2 = F.normalize(self.phases, dim=-1)
        shared = unit_RH2[rows_L][:, None, None]
        if not len(self.mixing):
            return Phases(mixing=(), shared=shared)
        here = shared[:, 0]
        previous = unit_RH2[previous_rows_L][:, None]
        fractions = torch.sigmoid(self.mixing)[:, None, :, None, None]
        keys = [own * here + (1 - own) * previous for own in fractions]
        mixing = tuple(torch.stack([here.expand_as(mixed), mixed], dim=1) for mixed in keys)
        return Phases(mixing=mixing, shared=shared)


def rotate(x: Tensor, phases: Tensor) -> Tensor:
    """Return x * cos + rotate_half(x) * sin; the two halves of a head have phases of their own.

    x ends in heads of dim H, phases in (H, 2): cosines and sines. The other dims are broadcast.

    Since they differ, this is no pure rotation once they are learned (method section 4). Products
    and sum have the phases' type, float32; the result is rounded to that of x.
    """
    cos, sin = phases.unbind(-1)
    first, second = x.chunk(2, dim=-1)
    turned = torch.addcmul(x * cos, torch.cat([-second, first], dim=-1), sin)
    return turned.to(x.dtype)


def initial_angles(sizes: Items[int], head_dim: int) -> Tensor:
    """Return the (R, H) angles that training starts from; 0 for the class and the null position.

    With H entries, f = H - H // 8 of them, rounded up to even, hold x and y, in cells of the finest
    grid so that coarse cells sit at their fine coordinates; the others hold the scale: one fewer
    than H // 8 where that is odd.
    """
    final = max(sizes)
    half = (head_dim - head_dim // 8 + 1) // 2
    scale_entries = head_dim - 2 * half
    frequencies = float(final**2) ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.zeros(sum(s * s for s in sizes) + 2, head_dim, dtype=torch.float64)
    row = 0
    for index, size in enumerate(sizes):
        stride = final / size
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        block = angles[row : row + size * size]
        block[:, :half] = (stride * x.reshape(-1, 1) + 1) * frequencies
        block[:, half : 2 * half] = (stride * y.reshape(-1, 1) + 1) * frequencies
        if scale_entries:
            exponent = torch.arange(scale_entries, dtype=torch.float64) / scale_entries
            block[:, -scale_entries:] = (index + 1) * (math.pi / 2) / 10**exponent
        row += size * size
    return angles.float()
