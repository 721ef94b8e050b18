"""VAR's residual quantizer: features as a sum of code vectors at growing scales (arXiv 2404.02905).

Scale after scale, what is left of the features is made smaller, each position takes its nearest
code, and the code vectors, made larger again and smoothed, are subtracted. Names of modules are
those of the released weights.

Letters: B images, C code width, h w the finest grid, k a scale, s_k its side, P positions, V codes.
f_BChw is the sum over the scales so far.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.systems.backbone import Positive

SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
"""Sides of the published scales."""


class VARTokenizerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Architecture; the defaults are those of the published tokenizer."""

    scales: tuple[Positive, ...] = SCALES
    codes: Positive = 4096
    code_width: Positive = 32
    base_width: Positive = 160
    width_multipliers: tuple[Positive, ...] = (1, 1, 2, 2, 4)
    """Width of each level, from the pixels to the coarsest grid."""
    residual_blocks_per_level: Positive = 2
    phi_convolutions: Positive = 4
    phi_share: float = 0.5
    """How much of a scale's vectors the smoothing convolution replaces."""
    group_norm_groups: Positive = 32

    def __post_init__(self) -> None:
        check_scales(self.scales)
        if not self.widths or any(width % self.group_norm_groups for width in self.widths):
            raise ValueError(f"widths {self.widths} are not in {self.group_norm_groups} groups")

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each level."""
        return tuple(self.base_width * multiplier for multiplier in self.width_multipliers)


def check_scales(scales: Sequence[int]) -> None:
    """Raise ValueError unless scales grow to the finest."""
    if not scales or list(scales) != sorted(set(scales)):
        raise ValueError(f"scales {list(scales)} do not grow from the first to the last")


class Phi(nn.Module):
    """The smoothing convolutions; neighboring scales share one."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        self.share = config.phi_share
        self.qresi_ls = nn.ModuleList(
            nn.Conv2d(config.code_width, config.code_width, 3, padding=1)
            for _ in range(config.phi_convolutions)
        )
        self.index = phi_indices(len(config.scales), config.phi_convolutions)

    def forward(self, x_BChw: Tensor, k: int) -> Tensor:
        """Smooth the vectors of scale k at the finest size."""
        smooth = self.qresi_ls[self.index[k]]
        # On a CPU a convolution may sum in another order for another batch, and decoding calls
        # this: an image must not depend on its batch.
        parts = x_BChw.split(1) if x_BChw.device.type == "cpu" else (x_BChw,)
        return torch.cat([(1 - self.share) * x + self.share * smooth(x) for x in parts])


class Quantizer(nn.Module):
    """Codes of all scales to the sum of their vectors, and features to codes."""

    ema_vocab_hit_SV: Tensor
    """How often training met each code at each scale; only the released file reads it."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        self.scales = config.scales
        self.embedding = nn.Embedding(config.codes, config.code_width)
        self.quant_resi = Phi(config)
        hits = torch.zeros(len(config.scales), config.codes)
        self.register_buffer("ema_vocab_hit_SV", hits)

    def vectors(self, codes_BP: Tensor, k: int) -> Tensor:
        """Return what the row-major codes of scale k add to the sum, (B, C, h, w)."""
        side, finest = self.scales[k], self.scales[-1]
        x_BCss = self.embedding(codes_BP).transpose(1, 2).unflatten(2, (side, side))
        if side != finest:
            x_BCss = F.interpolate(x_BCss, size=(finest, finest), mode="bicubic")
        return self.quant_resi(x_BCss.contiguous(), k)

    def resized(self, x_BChw: Tensor, k: int) -> Tensor:
        """Return a grid averaged over the cells of scale k, (B, C, s_k, s_k)."""
        side = self.scales[k]
        return x_BChw if x_BChw.shape[-1] == side else F.adaptive_avg_pool2d(x_BChw, side)

    def sums(self, codes: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the sum, (B, C, h, w), after each scale of (B, s_k^2) codes."""
        f_BChw: Tensor | None = None
        for k, codes_BP in enumerate(codes):
            v_BChw = self.vectors(codes_BP, k)
            f_BChw = v_BChw if f_BChw is None else f_BChw + v_BChw
            yield f_BChw

    def inputs(self, codes: Sequence[Tensor]) -> Tensor:
        """Return what a transformer reads for the scales after the first, (B, P, C).

        Scale k reads the sum over the scales before it, at its own size.
        """
        rest = [
            self.resized(f_BChw, k).flatten(2).transpose(1, 2)
            for k, f_BChw in enumerate(self.sums(codes[:-1]), start=1)
        ]
        return torch.cat(rest, dim=1)

    def codes(self, features_BChw: Tensor) -> list[Tensor]:
        """Return the (B, s_k^2) codes of every scale, each of what the ones before left over."""
        left_BChw, codes = features_BChw, []
        for k in range(len(self.scales)):
            z_PC = self.resized(left_BChw, k).permute(0, 2, 3, 1).flatten(0, 2)
            codes.append(self._nearest(z_PC).view(len(left_BChw), -1))
            left_BChw = left_BChw - self.vectors(codes[-1], k)
        return codes

    def _nearest(self, z_PC: Tensor) -> Tensor:
        """Return the codes of least squared distance; vectors are not normalized."""
        table_VC = self.embedding.weight
        return (table_VC.square().sum(1) - 2 * z_PC @ table_VC.T).argmin(dim=1)


def phi_indices(scales: int, convolutions: int) -> tuple[int, ...]:
    """Return which smoothing convolution each scale has: the one nearest to its place in 0..1.

    Of two equally near ones float64 decides, as in the release: with ten scales and four
    convolutions the later one.
    """
    edge = 1 / 3 / convolutions
    ticks = np.linspace(edge, 1 - edge, convolutions)
    places = [k / (scales - 1) if scales > 1 else 0.0 for k in range(scales)]
    return tuple(int(np.argmin(np.abs(ticks - place))) for place in places)
