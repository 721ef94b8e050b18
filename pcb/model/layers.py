"""One layer of the transformer: adaptive norm, attention, SwiGLU (method section 4).

Letters: B batch, L positions of this call, M positions attended to, N heads, H head dim, D width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from pcb.model.cache import Cache
from pcb.model.mask import attend
from pcb.model.rotary import rotate


@dataclass(frozen=True, kw_only=True)
class AttentionContext:
    """What the tokens of one call attend to, the same for every layer.

    mask: (L, M) True where row sees column, the same as tiles (`pcb.model.mask`), or None where
    every token sees all M positions.
    cache: None outside decoding. start: position of the call's first token in the sequence.
    """

    mask: Tensor | BlockMask | None = None
    cache: Cache | None = None
    start: int = 0


Modulation = tuple[Tensor, Tensor]
"""Shift and scale of one adaptive norm, (B, 1, D) each."""
Modulations = tuple[Modulation, Modulation]
"""Those of a layer's two norms, before attention and before SwiGLU."""


class AdaptiveNorm(nn.Module):
    """RMSNorm, then x * scale + shift with (shift, scale) linear in the class (no gate)."""

    def __init__(self, width: int, *, std: float) -> None:
        """`std`: deviation of the initial weights; 0 begins at scale 1, shift 0."""
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.normal_(self.modulation.weight, std=std)
        nn.init.zeros_(self.modulation.bias)
        if std == 0:
            with torch.no_grad():
                self.modulation.bias[width:] = 1.0

    def forward(self, x_BLD: Tensor, modulation: Modulation) -> Tensor:
        """Return (B, L, D)."""
        shift, scale = modulation
        return torch.addcmul(shift, self.norm(x_BLD), scale)

    def modulated(self, condition_BD: Tensor) -> Modulation:
        """Return the shift and scale of a class embedding after SiLU."""
        shift, scale = self.modulation(condition_BD)[:, None].chunk(2, dim=-1)
        return shift, scale


class Attention(nn.Module):
    """Multi-head attention with rotary phases; keys may carry phases of their own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BLD: Tensor, phases: Tensor, context: AttentionContext, i: int) -> Tensor:
        """Return (B, L, D); `phases` are those of layer `i`, its number in the cache."""
        B, L, D = x_BLD.shape
        qkv = self.qkv(x_BLD).view(B, L, 3, self.heads, D // self.heads)
        qk_BL2NH, v_BL1NH = qkv.split((2, 1), dim=2)
        q_BNLH, k_BNMH = rotate(qk_BL2NH, phases).transpose(1, 3).unbind(2)
        v_BNMH = v_BL1NH.squeeze(2).transpose(1, 2)
        if context.cache is not None:
            k_BNMH, v_BNMH = context.cache.update(i, context.start, k_BNMH, v_BNMH)
        out = attend(q_BNLH, k_BNMH, v_BNMH, context.mask)
        return self.out(out.transpose(1, 2).reshape(B, L, D))


class SwiGLU(nn.Module):
    """down(SiLU(gate x) * up x), without biases."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return (B, L, D)."""
        return self.down(F.silu(self.gate(x_BLD)) * self.up(x_BLD))


class Layer(nn.Module):
    """Attention and SwiGLU, each behind an adaptive norm and beside a residual path."""

    def __init__(self, width: int, heads: int, hidden: int, *, modulation_std: float) -> None:
        super().__init__()
        self.attention_norm = AdaptiveNorm(width, std=modulation_std)
        self.attention = Attention(width, heads)
        self.mlp_norm = AdaptiveNorm(width, std=modulation_std)
        self.mlp = SwiGLU(width, hidden)

    def forward(
        self,
        x_BLD: Tensor,
        modulations: Modulations,
        phases: Tensor,
        context: AttentionContext,
        i: int,
    ) -> Tensor:
        """Return (B, L, D); the other arguments are those of `Attention.forward`."""
        first, second = modulations
        h = self.attention_norm(x_BLD, first)
        x_BLD = x_BLD + self.attention(h, phases, context, i)
        return x_BLD + self.mlp(self.mlp_norm(x_BLD, second))

    def modulations(self, condition_BD: Tensor) -> Modulations:
        """Return the shifts and scales of both norms for a class embedding after SiLU."""
        return self.attention_norm.modulated(condition_BD), self.mlp_norm.modulated(condition_BD)
