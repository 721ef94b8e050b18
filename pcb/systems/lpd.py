"""LPD: locality-aware parallel decoding, 20 calls for 256 tokens (arXiv 2507.01957).

A transformer with learned positions reads the tokens sampled so far and, for each cell to sample,
one learned query. A call feeds the last block's tokens and the next block's queries together:
queries see each other, so that what is sampled at once agrees, and no token sees a query.

Letters: B images, R rows (one or two per image), T tokens of an image, L positions of this call,
n tokens of a block, C width, N heads, H head dim, V codes. Ranks are places in the order of
sampling; slot 0 of the cache is the class, slot 1 + rank a token, or its query until the token is
sampled.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.model.cache import Cache
from pcb.model.exact import elementwise
from pcb.published.guidance import Count, Guidance
from pcb.systems.attention import Context
from pcb.systems.backbone import Positive
from pcb.systems.per_image_order import PerImageOrderDecoder
from pcb.systems.weights import read_tensors, with_weights

_EPSILON = 1e-6


class LPDConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Architecture of the transformer; the defaults are LPD-L's at 256 px."""

    width: Positive = 1024
    hidden_width: Positive = 4096
    heads: Positive = 16
    blocks: Positive = 24
    codes: Positive = 16384
    classes: Positive = 1000
    grid: tuple[Positive, Positive] = (16, 16)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if self.grid[0] != self.grid[1]:
            raise ValueError(f"grid {self.grid[0]} x {self.grid[1]} is not square")

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return self.grid[0] * self.grid[1]


LINEAR: Count = "before token"
"""What linear guidance of the published runs counts as done: it grows with a token's rank."""


class Attention(nn.Module):
    """Multi-head attention; queries, keys and values come from one matrix with a bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_RLC: Tensor, context: Context, layer: int) -> Tensor:
        """Return (R, L, C); `layer` is the place in the cache."""
        qkv_RL3NH = self.qkv(x_RLC).unflatten(2, (3, self.heads, -1))
        return self.proj(context.attend(layer, *qkv_RL3NH.unbind(2)))


class MLP(nn.Module):
    """fc2(GELU(fc1 x)), with the exact GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_RLC: Tensor) -> Tensor:
        """Return (R, L, C)."""
        return self.fc2(elementwise(F.gelu, self.fc1(x_RLC)))


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a residual path."""

    def __init__(self, config: LPDConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=_EPSILON)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=_EPSILON)
        self.mlp = MLP(config.width, config.hidden_width)

    def forward(self, x_RLC: Tensor, context: Context, layer: int) -> Tensor:
        """Return (R, L, C)."""
        x_RLC = x_RLC + self.attn(self.norm1(x_RLC), context, layer)
        return x_RLC + self.mlp(self.norm2(x_RLC))


class LPD(nn.Module):
    """The transformer. Names of modules are those of the released weights."""

    def __init__(self, config: LPDConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.fake_latent = nn.Parameter(torch.zeros(1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.class_emb = nn.Embedding(config.classes, width)
        self.token_emb = nn.Embedding(config.codes, width)
        self.z_proj_ln = nn.LayerNorm(width, eps=_EPSILON)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.head = nn.Linear(width, config.codes, bias=False)

    def class_vectors(self, labels_R: Tensor) -> Tensor:
        """Return (R, C); the label after the last class is the null class."""
        return F.embedding(labels_R, torch.cat([self.class_emb.weight, self.fake_latent]))

    def forward(self, vectors_RLC: Tensor, places_RL: Tensor, context: Context) -> Tensor:
        """Return the residual stream, (R, L, C), after the last block.

        vectors: of the class, of codes, or the query vector. places: 0 is the class, 1 + cell else.
        """
        x_RLC = self.z_proj_ln(vectors_RLC + self.pos_embed[0][places_RL])
        for layer, block in enumerate(self.blocks):
            x_RLC = block(x_RLC, context, layer)
        return x_RLC

    def logits(self, x_RLC: Tensor) -> Tensor:
        """Return (R, L, V) of residual streams at queries."""
        return self.head(self.norm(x_RLC))

    def teacher_forced(
        self, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor, sizes: Sequence[int]
    ) -> Tensor:
        """Return the logits by rank, (B, T, V), of given row-major codes in one pass.

        orders: rank -> cell. sizes: tokens of each block.
        """
        context_BT = orders_BT[:, : sum(sizes[:-1])]
        class_B1C = self.class_vectors(labels_B)[:, None]
        codes_BTC = self.token_emb(codes_BT.gather(1, context_BT))
        queries_BTC = self.mask_token.expand(len(labels_B), sum(sizes), -1)
        places = [torch.zeros_like(labels_B)[:, None], 1 + context_BT, 1 + orders_BT]
        mask = training_mask(sizes).to(codes_BT.device)
        x_BLC = self(
            torch.cat([class_B1C, codes_BTC, queries_BTC], dim=1),
            torch.cat(places, dim=1),
            Context(mask=mask),
        )
        return self.logits(x_BLC[:, -sum(sizes) :])


def training_mask(sizes: Sequence[int]) -> Tensor:
    """Return who sees whom in one pass over class, tokens but the last block's, and all queries.

    A token sees the class and the tokens of its own and of earlier blocks; a query the class, the
    tokens of earlier blocks and the queries of its own.
    """
    blocks_T = torch.repeat_interleave(torch.arange(1, len(sizes) + 1), torch.tensor(sizes))
    context_L = torch.cat([torch.zeros(1, dtype=torch.int64), blocks_T[: sum(sizes[:-1])]])
    no_query = torch.zeros(len(context_L), len(blocks_T), dtype=torch.bool)
    of_tokens = torch.cat([context_L[:, None] >= context_L, no_query], dim=1)
    of_queries = torch.cat([blocks_T[:, None] > context_L, blocks_T[:, None] == blocks_T], dim=1)
    return torch.cat([of_tokens, of_queries])


class LPDDecoder(PerImageOrderDecoder):
    """As many calls as blocks; the class is fed in the first one, the last block never."""

    def __init__(self, model: LPD, guidance: Guidance, sizes: Sequence[int]) -> None:
        """`sizes`: tokens of each block, first to last."""
        config, device = model.config, model.head.weight.device
        assert sum(sizes) == config.tokens, f"blocks of {sum(sizes)} for {config.tokens} tokens"
        super().__init__(sizes, guidance, codes=config.codes, classes=config.classes, device=device)
        self.model = model
        self._masks = [self._mask(step).to(device) for step in range(self.steps)]

    def allocate(self, rows: int) -> None:
        """Make room for every token's keys and values."""
        config, weight = self.model.config, self.model.head.weight
        self._cache = Cache.allocate(
            layers=config.blocks,
            batch=rows,
            heads=config.heads,
            length=1 + self.tokens,
            head_dim=config.width // config.heads,
            dtype=weight.dtype,
            device=weight.device,
        )

    def read(self, step: int) -> Tensor:
        """Feed the block before and ask for this one; return (R, n, V) logits."""
        first, last = self.ends[step]
        slot = self._fed(step)
        rows = self.rows.count(last - first)
        if step == 0:
            fed_RnC = self.model.class_vectors(self.rows.labels_R[:rows])[:, None]
        else:
            fed_RnC = self.model.token_emb(self.codes(step - 1, rows))
        queries_RnC = self.model.mask_token.expand(rows, last - first, -1)
        x_RLC = self.model(
            torch.cat([fed_RnC, queries_RnC], dim=1),
            self.places_RL[:rows, slot : 1 + last],
            Context(mask=self._masks[step], cache=self._cache.rows(0, rows), start=slot),
        )
        return self.model.logits(x_RLC[:, first - last :])

    def _fed(self, step: int) -> int:
        """Return the first slot that a call feeds."""
        return 1 + self.ends[step - 1][0] if step else 0

    def _mask(self, step: int) -> Tensor:
        """Return who sees whom in a call: tokens do not see the block's queries."""
        first, last = self.ends[step]
        slot = self._fed(step)
        mask = torch.ones(1 + last - slot, 1 + last, dtype=torch.bool)
        mask[: 1 + first - slot, 1 + first :] = False
        return mask


def load_lpd(path: Path, config: LPDConfig) -> LPD:
    """Load a released file (pickle, key `model`) or safetensors, strictly.

    Raises UserError naming the file and the tensors that do not fit.
    """
    with torch.device("meta"):
        model = LPD(config)
    return with_weights(model, read_tensors(path, ("model",)), path)
