"""LlamaGen's transformer (arXiv 2406.06525), the base of PAR, RandAR and NAR too.

Tensors have the names of the released files. A class token stands before the code tokens; RMS norms
before attention and SwiGLU, no biases, phases of two dimensions, a head that is not tied.

Letters: R rows, L positions of a call, M positions attended to, N heads, H head dim, C width,
V codes, T tokens of an image, g side of its grid.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.model.cache import Cache
from pcb.model.exact import attend, elementwise

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a model of this family, in the words of a recorded `config.json`."""

    width: Positive
    hidden_width: Positive
    """Inside SwiGLU; the papers take 8/3 of the width, up to a multiple of 256."""
    heads: Positive
    blocks: Positive
    codes: Positive
    classes: Positive
    grid: tuple[Positive, Positive]
    norm_eps: float = 1e-5
    rotary_base: float = 10_000.0

    def __post_init__(self) -> None:
        if self.width % (4 * self.heads):
            # Half of a head's pairs of components turns with the row, half with the column.
            raise ValueError(f"width {self.width} is not a multiple of 4 for {self.heads} heads")
        if self.grid[0] != self.grid[1]:
            raise ValueError(f"grid {self.grid[0]} x {self.grid[1]} is not square")

    @property
    def side(self) -> int:
        """g, the side of the grid."""
        return self.grid[0]

    @property
    def tokens(self) -> int:
        """T, the tokens of an image."""
        return self.side**2

    @property
    def head_dim(self) -> int:
        """H."""
        return self.width // self.heads


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the tokens of one call share in every block.

    phases: (L, 1, H/2, 2), or (R, L, 1, H/2, 2) where every row has its own (`rotary_table`).
    mask: (L, M) True where a token sees a position; None where all see all M.
    start: position in the cache of the call's first token; `cache` None runs without.
    """

    phases: Tensor
    mask: Tensor | None = None
    cache: Cache | None = None
    start: int = 0


class ClassEmbedding(nn.Module):
    """The class table; its last row is the null class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, labels_R: Tensor) -> Tensor:
        """Return (R, C)."""
        return self.embedding_table(labels_R)


class Norm(nn.Module):
    """RMS norm with statistics in float32, cast back before the weights are multiplied."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape and dtype."""
        return self.weight * F.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention; queries and keys are rotated."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.wqkv = nn.Linear(size.width, 3 * size.width, bias=False)
        self.wo = nn.Linear(size.width, size.width, bias=False)

    def forward(self, x_RLC: Tensor, call: Call, i: int) -> Tensor:
        """Return (R, L, C); `i` is the block's number, its place in the cache."""
        R, L, C = x_RLC.shape
        qkv = self.wqkv(x_RLC).view(R, L, 3 * self.heads, C // self.heads).transpose(1, 2)
        # Queries and keys turn together: half as many small kernels.
        turned = rotate(qkv[:, : 2 * self.heads], call.phases.transpose(-3, -4))
        q_RNLH, k_RNMH = turned.chunk(2, dim=1)
        v_RNMH = qkv[:, 2 * self.heads :]
        if call.cache is not None:
            k_RNMH, v_RNMH = call.cache.update(i, call.start, k_RNMH, v_RNMH)
        return self.wo(attend(q_RNLH, k_RNMH, v_RNMH, call.mask))


class FeedForward(nn.Module):
    """SwiGLU: w2(SiLU(w1 x) * w3 x)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.w1 = nn.Linear(size.width, size.hidden_width, bias=False)
        self.w3 = nn.Linear(size.width, size.hidden_width, bias=False)
        self.w2 = nn.Linear(size.hidden_width, size.width, bias=False)

    def forward(self, x_RLC: Tensor) -> Tensor:
        """Return (R, L, C)."""
        return self.w2(elementwise(F.silu, self.w1(x_RLC)) * self.w3(x_RLC))


class TransformerBlock(nn.Module):
    """Attention and SwiGLU, each behind a norm and beside a residual path."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention = Attention(size)
        self.feed_forward = FeedForward(size)
        self.attention_norm = Norm(size.width, size.norm_eps)
        self.ffn_norm = Norm(size.width, size.norm_eps)

    def forward(self, x_RLC: Tensor, call: Call, i: int) -> Tensor:
        """Return (R, L, C); `i` is the block's number."""
        x_RLC = x_RLC + self.attention(self.attention_norm(x_RLC), call, i)
        return x_RLC + self.feed_forward(self.ffn_norm(x_RLC))


class Backbone(nn.Module):
    """Class and code tables, blocks, last norm and head, with random weights to begin with."""

    extra_blocks = 0
    """Blocks at the end that not every head reads."""
    passed_over: frozenset[str] = frozenset()
    """Tensors that a released file may hold and that are not needed."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.cls_embedding = ClassEmbedding(size.classes, size.width)
        self.tok_embeddings = nn.Embedding(size.codes, size.width)
        self.layers = nn.ModuleList(
            TransformerBlock(size) for _ in range(size.blocks + self.extra_blocks)
        )
        self.norm = Norm(size.width, size.norm_eps)
        self.output = nn.Linear(size.width, size.codes, bias=False)
        self.apply(_initialize)

    def run(self, x_RLC: Tensor, call: Call) -> Tensor:
        """Return what the blocks, but for the extra ones, make of a call's tokens, (R, L, C)."""
        for i in range(self.size.blocks):
            x_RLC = self.layers[i](x_RLC, call, i)
        return x_RLC

    def sequence_cells(self) -> Tensor:
        """Return the row-major cell of every position, -1 for the class token: raster order."""
        return torch.arange(-1, self.size.tokens)

    def sequence_mask(self) -> Tensor:
        """Return the (L, L) mask, True where a position of the whole sequence sees another."""
        return causal(1 + self.size.tokens)

    def head(self, x_RnC: Tensor) -> Tensor:
        """Return (R, n, V) float32 logits of what `run` returned."""
        return self.output(self.norm(x_RnC)).float()


def _initialize(module: nn.Module) -> None:
    """Draw a module's weights as the papers do; but for the head, which they start at zero.

    Released weights replace them; random ones serve to measure time.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def causal(positions: int) -> Tensor:
    """Return the (L, L) mask in which every position sees itself and all before it."""
    return torch.ones(positions, positions, dtype=torch.bool).tril()


def rotary_table(size: Size) -> Tensor:
    """Return (1 + T, H/2, 2): cosine and sine of every pair's angle on every cell, float32.

    Row 1 + c belongs to the row-major cell c: the first half of its pairs turns with the row, the
    second with the column. Row 0, for tokens without a cell, is all zero, cosines too: their
    queries and keys become zero, so that they look at everything evenly, and nobody at them more
    or less than at a token that scores 0.
    """
    quarter = size.head_dim // 4
    exponents = torch.arange(quarter, dtype=torch.float64, device="cpu") / quarter
    angles = torch.arange(size.side, device="cpu")[:, None] * size.rotary_base**-exponents
    rows = angles[:, None].expand(-1, size.side, -1)
    columns = angles[None].expand(size.side, -1, -1)
    angles = torch.cat([rows, columns], dim=-1).flatten(0, 1)
    turns = torch.stack([angles.cos(), angles.sin()], dim=-1).float()
    return torch.cat([torch.zeros_like(turns[:1]), turns])


def rotate(x: Tensor, phases: Tensor) -> Tensor:
    """Turn neighboring components (a, b) of (..., H) by phases (..., H/2, 2), in float32."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = phases.unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2).to(x.dtype)
