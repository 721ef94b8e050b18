"""Convolutional encoder and decoder of the tokenizer, LlamaGen's VQ-16 by configuration.

A level halves (encoder) or doubles (decoder) the grid, except the lowest, which attends
instead. Knows no codes. Module names are those of the released weights, so they load as they are.
"""

# Shape suffixes: B batch, C channels, h w grid, P = h*w positions, e.g. x_BChw.

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from pcb.config import Autoencoder

_NORM_EPSILON = 1e-6
_IMAGE_CHANNELS = 3


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=_NORM_EPSILON)


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1 shortcut where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels_in, groups)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = _norm(channels_out, groups)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.nin_shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return a grid of the same size."""
        y_BChw = self.conv1(F.silu(self.norm1(x_BChw)))
        y_BChw = self.conv2(F.silu(self.norm2(y_BChw)))
        return self.nin_shortcut(x_BChw) + y_BChw


class Attention(nn.Module):
    """x + single-head attention over all positions of the grid."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return a grid of the same size."""
        y_BChw = self.norm(x_BChw)
        q_BPC, k_BPC, v_BPC = (
            layer(y_BChw).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        y_BPC = F.scaled_dot_product_attention(q_BPC, k_BPC, v_BPC)
        return x_BChw + self.proj_out(y_BPC.transpose(1, 2).reshape(x_BChw.shape))


class Downsample(nn.Module):
    """Halve the grid by a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return a grid of half the side; padding is at the right and the bottom alone."""
        return self.conv(F.pad(x_BChw, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the grid by repetition, then smooth it by a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return a grid of twice the side."""
        return self.conv(F.interpolate(x_BChw, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention in the lowest level."""

    def __init__(
        self, channels_in: int, channels_out: int, blocks: int, groups: int, attend: bool
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.res = nn.ModuleList(
            ResidualBlock(before, after, groups) for before, after in pairwise(widths)
        )
        self.attn = nn.ModuleList(
            Attention(channels_out, groups) for _ in range(blocks if attend else 0)
        )
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return the grid at the next level's resolution."""
        for i, block in enumerate(self.res):
            x_BChw = block(x_BChw)
            if len(self.attn):
                x_BChw = self.attn[i](x_BChw)
        return self.upsample(self.downsample(x_BChw))


def _middle(channels: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList(
        [
            ResidualBlock(channels, channels, groups),
            Attention(channels, groups),
            ResidualBlock(channels, channels, groups),
        ]
    )


class Encoder(nn.Module):
    """Images to feature grids, smaller by the settings' stride."""

    def __init__(self, settings: Autoencoder) -> None:
        super().__init__()
        groups = settings.norm_groups
        widths = [settings.channels * m for m in settings.channel_multipliers]
        lowest = len(widths) - 1
        self.conv_in = nn.Conv2d(_IMAGE_CHANNELS, settings.channels, 3, padding=1)
        self.conv_blocks = nn.ModuleList()
        before = settings.channels
        for i, width in enumerate(widths):
            level = Level(before, width, settings.residual_blocks, groups, attend=i == lowest)
            if i != lowest:
                level.downsample = Downsample(width)
            self.conv_blocks.append(level)
            before = width
        self.mid = _middle(before, groups)
        self.norm_out = _norm(before, groups)
        self.conv_out = nn.Conv2d(before, settings.latent_channels, 3, padding=1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return (B, latent channels, H / stride, W / stride) features of images in [-1, 1]."""
        x_BChw = self.conv_in(images_B3HW)
        for level in self.conv_blocks:
            x_BChw = level(x_BChw)
        for layer in self.mid:
            x_BChw = layer(x_BChw)
        return self.conv_out(F.silu(self.norm_out(x_BChw)))


class Decoder(nn.Module):
    """Feature grids to images, larger by the settings' stride; one block more a level."""

    def __init__(self, settings: Autoencoder) -> None:
        super().__init__()
        groups = settings.norm_groups
        widths = [settings.channels * m for m in reversed(settings.channel_multipliers)]
        before = widths[0]
        self.conv_in = nn.Conv2d(settings.latent_channels, before, 3, padding=1)
        self.mid = _middle(before, groups)
        self.conv_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            level = Level(before, width, settings.residual_blocks + 1, groups, attend=i == 0)
            if i != len(widths) - 1:
                level.upsample = Upsample(width)
            self.conv_blocks.append(level)
            before = width
        self.norm_out = _norm(before, groups)
        self.conv_out = nn.Conv2d(before, _IMAGE_CHANNELS, 3, padding=1)

    def forward(self, features_BChw: Tensor) -> Tensor:
        """Return (B, 3, h * stride, w * stride) images, nominally in [-1, 1], not clamped."""
        x_BChw = self.conv_in(features_BChw)
        for layer in self.mid:
            x_BChw = layer(x_BChw)
        for level in self.conv_blocks:
            x_BChw = level(x_BChw)
        x_BChw = F.silu(self.norm_out(x_BChw))
        return self.conv_out(x_BChw.to(self.conv_out.weight.dtype))
