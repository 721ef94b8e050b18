"""VAR's tokenizer: encoder and decoder around the residual quantizer (arXiv 2404.02905).

Names of modules are those of the released weights.

Letters: B images, C code width, D width of a level, h w the finest grid, P positions, H W pixels.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.systems.var_quantizer import Quantizer, VARTokenizerConfig
from pcb.systems.weights import read_tensors, with_weights
from pcb.tokenizer.autoencoder import Downsample, ResidualBlock, Upsample


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


def load_var_tokenizer(path: Path, config: VARTokenizerConfig) -> VARTokenizer:
    """Load the released tokenizer (a flat pickle) or safetensors, strictly.

    Raises UserError naming the file and the tensors that do not fit.
    """
    with torch.device("meta"):
        tokenizer = VARTokenizer(config)
    return with_weights(tokenizer, read_tensors(path), path)


def _norm(width: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, width, eps=1e-6)
