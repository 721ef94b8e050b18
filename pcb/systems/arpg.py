"""ARPG: any order, sampled in parallel by queries that say where (arXiv 2503.10568), 32 calls.

The first half of the blocks reads the tokens sampled so far. Their last features make one set of
keys and values, which all blocks of the second half share; these ask with queries that are one and
the same vector, told apart by the phases of the cells that they ask for. Queries do not see each
other.

Letters: B images, R rows (one or two per image), T tokens of an image, L positions of this call,
M positions attended to, n tokens of a block, C width, N heads, H head dim, V codes. Ranks are
places in the order of sampling; slot 0 of the cache is the class, slot 1 + rank a token.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from pcb.model.cache import Cache
from pcb.model.exact import attend
from pcb.order.remaining import Curve
from pcb.published.guidance import Guidance
from pcb.systems.attention import Context
from pcb.systems.backbone import FeedForward, Norm, Positive, Size, causal, rotary_table, rotate
from pcb.systems.per_image_order import PerImageOrderDecoder
from pcb.systems.weights import read_tensors, with_weights


class ARPGConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Architecture of the transformer, which serves a grid of any size; the defaults are L's."""

    grid: tuple[Positive, Positive] = (16, 16)
    curve: Curve = "arccos"
    """How blocks grow; the default is the released code's."""

    width: Positive = 1024
    hidden_width: Positive = 2816
    heads: Positive = 16
    self_blocks: Positive = 12
    cross_blocks: Positive = 12
    codes: Positive = 16384
    classes: Positive = 1000
    norm_eps: float = 1e-5
    rotary_base: float = 10_000.0

    def __post_init__(self) -> None:
        if self.grid[0] != self.grid[1]:
            raise ValueError(f"grid {self.grid[0]} x {self.grid[1]} is not square")
        self.size(self.grid[0])  # Refuses a width that its heads do not divide.

    @property
    def tokens(self) -> int:
        """T, the tokens of an image."""
        return self.grid[0] * self.grid[1]

    def size(self, side: int) -> Size:
        """Return the same in the words of the models that share the parts."""
        return Size(
            width=self.width,
            hidden_width=self.hidden_width,
            heads=self.heads,
            blocks=self.self_blocks + self.cross_blocks,
            codes=self.codes,
            classes=self.classes,
            grid=(side, side),
            norm_eps=self.norm_eps,
            rotary_base=self.rotary_base,
        )


class SelfAttention(nn.Module):
    """Multi-head attention of the tokens; queries and keys are rotated by the tokens' cells."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.proj = (_linear(width, width) for _ in range(4))

    def forward(self, x_RLC: Tensor, phases: Tensor, context: Context, layer: int) -> Tensor:
        """Return (R, L, C); `layer` is the place in the cache."""
        q_RLNH, k_RLNH, v_RLNH = (
            linear(x_RLC).unflatten(2, (self.heads, -1))
            for linear in (self.to_q, self.to_k, self.to_v)
        )
        out = context.attend(layer, rotate(q_RLNH, phases), rotate(k_RLNH, phases), v_RLNH)
        return self.proj(out)


class CrossAttention(nn.Module):
    """Multi-head attention of queries to keys and values that are given, already rotated."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.proj = _linear(width, width), _linear(width, width)

    def forward(
        self, q_RnC: Tensor, phases: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return (R, n, C)."""
        q_RnNH = rotate(self.to_q(q_RnC).unflatten(2, (self.heads, -1)), phases)
        return self.proj(attend(q_RnNH.transpose(1, 2), keys, values, mask))


class SelfBlock(nn.Module):
    """Attention and SwiGLU, each behind a norm and beside a residual path."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attn = SelfAttention(size.width, size.heads)
        self.ffn = FeedForward(size)
        self.attn_norm = Norm(size.width, size.norm_eps)
        self.ffn_norm = Norm(size.width, size.norm_eps)

    def forward(self, x_RLC: Tensor, phases: Tensor, context: Context, layer: int) -> Tensor:
        """Return (R, L, C)."""
        x_RLC = x_RLC + self.attn(self.attn_norm(x_RLC), phases, context, layer)
        return x_RLC + self.ffn(self.ffn_norm(x_RLC))


class CrossBlock(nn.Module):
    """The same for queries."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attn = CrossAttention(size.width, size.heads)
        self.ffn = FeedForward(size)
        self.attn_norm = Norm(size.width, size.norm_eps)
        self.ffn_norm = Norm(size.width, size.norm_eps)

    def forward(
        self, q_RnC: Tensor, phases: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return (R, n, C)."""
        q_RnC = q_RnC + self.attn(self.attn_norm(q_RnC), phases, keys, values, mask)
        return q_RnC + self.ffn(self.ffn_norm(q_RnC))


class Blocks(nn.Module):
    """Both halves, and between them the keys and values that the second one shares."""

    def __init__(self, config: ARPGConfig) -> None:
        super().__init__()
        size = config.size(1)
        self.heads = config.heads
        self.self_dec = nn.ModuleList(SelfBlock(size) for _ in range(config.self_blocks))
        self.cross_dec = nn.ModuleList(CrossBlock(size) for _ in range(config.cross_blocks))
        self.norm = Norm(config.width, config.norm_eps)
        self.to_k, self.to_v = (_linear(config.width, config.width) for _ in range(2))

    def read(self, x_RLC: Tensor, phases: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Run the first half on tokens; return the shared keys and values, (R, N, M, H) each."""
        for layer, block in enumerate(self.self_dec):
            x_RLC = block(x_RLC, phases, context, layer)
        x_RLC = self.norm(x_RLC)
        k_RLNH, v_RLNH = (
            linear(x_RLC).unflatten(2, (self.heads, -1)) for linear in (self.to_k, self.to_v)
        )
        return context.store(len(self.self_dec), rotate(k_RLNH, phases), v_RLNH)

    def ask(
        self,
        q_RnC: Tensor,
        phases: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run the second half on queries; return (R, n, C)."""
        for block in self.cross_dec:
            q_RnC = block(q_RnC, phases, keys, values, mask)
        return q_RnC


class ARPG(nn.Module):
    """The transformer. Names of modules are those of the released weights.

    Phases are rows of `rotary_table` with an axis for the heads: (R, L, 1, H/2, 2).
    """

    def __init__(self, config: ARPGConfig) -> None:
        super().__init__()
        self.config = config
        # Codes, the query, the classes, the null class, and a row that nothing reads.
        self.embeddings = nn.Embedding(config.codes + config.classes + 3, config.width)
        self.layers = Blocks(config)
        self.norm = Norm(config.width, config.norm_eps)
        self.head = _linear(config.width, config.codes)

    def classes(self, labels_R: Tensor) -> Tensor:
        """Return (R, 1, C); the label after the last class is the null class."""
        return self.embeddings(self.config.codes + 1 + labels_R)[:, None]

    def logits(
        self, phases: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return (R, n, V) float32 logits of the cells whose phases are given."""
        query_C = self.embeddings.weight[self.config.codes]
        q_RnC = query_C.expand(*phases.shape[:2], -1)
        return self.head(self.norm(self.layers.ask(q_RnC, phases, keys, values, mask))).float()

    def teacher_forced(self, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor) -> Tensor:
        """Return the logits by rank, (B, T, V), of given row-major codes in one pass.

        As in training, a token sees what comes before it alone; decoding lets the tokens of a
        block see each other. orders: rank -> cell of a square grid.
        """
        side = math.isqrt(orders_BT.shape[1])
        table = rotary_table(self.config.size(side)).to(codes_BT.device)
        asked = table[1 + orders_BT][:, :, None]
        fed = torch.cat([table[:1].expand(len(labels_B), 1, 1, -1, -1), asked[:, :-1]], dim=1)
        codes_BT = codes_BT.gather(1, orders_BT)[:, :-1]
        x_BTC = torch.cat([self.classes(labels_B), self.embeddings(codes_BT)], dim=1)
        mask = causal(x_BTC.shape[1]).to(codes_BT.device)
        keys, values = self.layers.read(x_BTC, fed, Context(mask=mask))
        return self.logits(asked, keys, values, mask)


class ARPGDecoder(PerImageOrderDecoder):
    """As many calls as blocks; the class is fed in the first one, the last block never."""

    def __init__(self, model: ARPG, guidance: Guidance, sizes: Sequence[int], side: int) -> None:
        """`sizes`: tokens of each block, first to last, of a grid of `side` cells per side."""
        config, device = model.config, model.head.weight.device
        assert sum(sizes) == side * side, f"blocks of {sum(sizes)} for {side}x{side} tokens"
        super().__init__(sizes, guidance, codes=config.codes, classes=config.classes, device=device)
        self.model = model
        self._table = rotary_table(config.size(side)).to(device)

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch: (B,) classes and for each image its order, rank -> cell."""
        super().begin(labels_B, orders_BT)
        self._phases.copy_(self._table[self.places_RL][:, :, None])

    def allocate(self, rows: int) -> None:
        """Make room for the phases, and for keys and values: a layer more is the shared one."""
        config, weight = self.model.config, self.model.head.weight
        shape = (rows, 1 + self.tokens, 1, *self._table.shape[1:])
        self._phases = torch.zeros(shape, device=self.device)
        self._cache = Cache.allocate(
            layers=config.self_blocks + 1,
            batch=rows,
            heads=config.heads,
            length=1 + self.ends[-1][0],
            head_dim=config.width // config.heads,
            dtype=weight.dtype,
            device=weight.device,
        )

    def read(self, step: int) -> Tensor:
        """Feed the block before and ask for this one; return (R, n, V) logits."""
        first, last = self.ends[step]
        slot = 1 + self.ends[step - 1][0] if step else 0
        rows = self.rows.count(min(1 + first - slot, last - first))
        if step == 0:
            x_RLC = self.model.classes(self.rows.labels_R[:rows])
        else:
            x_RLC = self.model.embeddings(self.codes(step - 1, rows))
        phases = self._phases[:rows]
        context = Context(cache=self._cache.rows(0, rows), start=slot)
        keys, values = self.model.layers.read(x_RLC, phases[:, slot : 1 + first], context)
        return self.model.logits(phases[:, 1 + first : 1 + last], keys, values)


def published_order(seed: int, images: int, tokens: int) -> Tensor:
    """Return the order, (T,), that the released code gives all images of a call, on a CPU.

    It follows from the seed and from how many images the call has, so it is no order that an image
    owns; `pcb.order.random` has those.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.rand(images, generator=generator)  # Spent on dropping labels, which decoding ignores.
    return torch.rand(tokens, generator=generator).argsort()


def load_arpg(path: Path, config: ARPGConfig) -> ARPG:
    """Load the released file (pickle, wrapped or flat) or safetensors, strictly.

    Raises UserError naming the file and the tensors that do not fit.
    """
    with torch.device("meta"):
        model = ARPG(config)
    return with_weights(model, read_tensors(path, ("state_dict", "model", "module")), path)


def _linear(width: int, out: int) -> nn.Linear:
    return nn.Linear(width, out, bias=False)
