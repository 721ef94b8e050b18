"""VAR's tokenizer: an image as the sum of residual codes at growing scales (arXiv 2404.02905).

Scale after scale, what is left of the encoder's features is made smaller, each position takes its
nearest code, and the code vectors, made larger again and smoothed, are subtracted. The decoder
sees the sum. Names of modules are those of the released weights.

Letters: B images, C code width, D width of a level, h w the finest grid, k a scale, s_k its side,
P positions, V codes. f_BChw is the sum over the scales so far.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.systems.backbone import Positive
from pcb.systems.weights import read_tensors, with_weights
from pcb.tokenizer.autoencoder import Downsample, ResidualBlock, Upsample

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


class Attention(nn.Module):
    """x + single-head attention over all positions; queries, keys and values of one convolution."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(width, groups)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """Return a grid of the same size."""
        qkv_BPD = self.qkv(self.norm(x_BDhw)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        y_BPD = F.scaled_dot_product_attention(*qkv_BPD)
        return x_BDhw + self.proj_out(y_BPD.transpose(1, 2).reshape(x_BDhw.shape))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention in the coarsest level."""

    def __init__(self, before: int, width: int, blocks: int, groups: int, attend: bool) -> None:
        super().__init__()
        widths = [before] + [width] * blocks
        self.block = nn.ModuleList(ResidualBlock(a, b, groups) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(Attention(width, groups) for _ in range(blocks if attend else 0))
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """Return the grid at the next level's resolution."""
        for i, block in enumerate(self.block):
            x_BDhw = block(x_BDhw)
            if len(self.attn):
                x_BDhw = self.attn[i](x_BDhw)
        return self.upsample(self.downsample(x_BDhw))


class Middle(nn.Module):
    """Residual block, attention, residual block at the coarsest grid."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(width, width, groups)
        self.attn_1 = Attention(width, groups)
        self.block_2 = ResidualBlock(width, width, groups)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """Return a grid of the same size."""
        return self.block_2(self.attn_1(self.block_1(x_BDhw)))


class Encoder(nn.Module):
    """Images to features; each level but the coarsest halves the grid."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        groups, widths = config.group_norm_groups, config.widths
        self.conv_in = nn.Conv2d(3, config.base_width, 3, padding=1)
        self.down = nn.ModuleList()
        before = config.base_width
        for i, width in enumerate(widths):
            coarsest = i == len(widths) - 1
            level = Level(before, width, config.residual_blocks_per_level, groups, coarsest)
            if not coarsest:
                level.downsample = Downsample(width)
            self.down.append(level)
            before = width
        self.mid = Middle(before, groups)
        self.norm_out = _norm(before, groups)
        self.conv_out = nn.Conv2d(before, config.code_width, 3, padding=1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return (B, C, h, w) features of images in -1..1."""
        x_BDhw = self.conv_in(images_B3HW)
        for level in self.down:
            x_BDhw = level(x_BDhw)
        return self.conv_out(F.silu(self.norm_out(self.mid(x_BDhw))))


class Decoder(nn.Module):
    """Features to images; each level but the finest doubles the grid, with one block more each."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        groups, widths = config.group_norm_groups, config.widths
        blocks = config.residual_blocks_per_level + 1
        self.conv_in = nn.Conv2d(config.code_width, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups)
        self.up = nn.ModuleList()
        for i, width in enumerate(widths):
            coarsest = i == len(widths) - 1
            before = width if coarsest else widths[i + 1]
            level = Level(before, width, blocks, groups, coarsest)
            if i:
                level.upsample = Upsample(width)
            self.up.append(level)
        self.norm_out = _norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, features_BChw: Tensor) -> Tensor:
        """Return (B, 3, H, W) images, nominally in -1..1, not clamped."""
        x_BDhw = self.mid(self.conv_in(features_BChw))
        for level in reversed(self.up):
            x_BDhw = level(x_BDhw)
        return self.conv_out(F.silu(self.norm_out(x_BDhw)))


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


class VARTokenizer(nn.Module):
    """Images in -1..1 to codes of all scales and back."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config)
        self.quant_conv = nn.Conv2d(config.code_width, config.code_width, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(config.code_width, config.code_width, 3, padding=1)

    def features(self, images_B3HW: Tensor) -> Tensor:
        """Return the (B, C, h, w) features that are quantized."""
        return self.quant_conv(self.encoder(images_B3HW))

    def encode(self, images_B3HW: Tensor) -> list[Tensor]:
        """Return the (B, s_k^2) row-major codes of every scale."""
        return self.quantize.codes(self.features(images_B3HW))

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Return images in -1..1, (B, 3, H, W), of the codes of every scale."""
        *_, f_BChw = self.quantize.sums(codes)
        return self.decode_sum(f_BChw)

    def decode_sum(self, f_BChw: Tensor) -> Tensor:
        """Return images in -1..1 of a sum over all scales."""
        return self.decoder(self.post_quant_conv(f_BChw)).clamp(-1, 1)


def phi_indices(scales: int, convolutions: int) -> tuple[int, ...]:
    """Return which smoothing convolution each scale has: the one nearest to its place in 0..1.

    Of two equally near ones float64 decides, as in the release: with ten scales and four
    convolutions the later one.
    """
    edge = 1 / 3 / convolutions
    ticks = np.linspace(edge, 1 - edge, convolutions)
    places = [k / (scales - 1) if scales > 1 else 0.0 for k in range(scales)]
    return tuple(int(np.argmin(np.abs(ticks - place))) for place in places)


def load_var_tokenizer(path: Path, config: VARTokenizerConfig) -> VARTokenizer:
    """Load the released tokenizer (a flat pickle) or safetensors, strictly.

    Raises UserError naming the file and the tensors that do not fit.
    """
    with torch.device("meta"):
        tokenizer = VARTokenizer(config)
    return with_weights(tokenizer, read_tensors(path), path)


def _norm(width: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, width, eps=1e-6)
