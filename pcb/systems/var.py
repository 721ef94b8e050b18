"""VAR: all tokens of a scale at once, scale after scale (arXiv 2404.02905), 10 calls.

Tokens of a scale read the sum that the scales before it make (`pcb.systems.var_quantizer`), never
codes themselves. The class is the first scale's input and steers every norm.

Letters: B images, R rows (one or two per image), T tokens of all scales, L positions of this call,
C width, N heads, H head dim, V codes, D code width.
"""

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.model.exact import elementwise
from pcb.systems.attention import Context
from pcb.systems.backbone import Positive
from pcb.systems.var_quantizer import SCALES, check_scales
from pcb.systems.weights import read_tensors, with_weights

_EPSILON = 1e-6
_LARGEST_SCALE = math.log(100)
_NEW_IN_RELEASE = "blocks.0.attn.scale_mul_1H11"


class VARConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Architecture of the transformer; the defaults are VAR-d16's at 256 px."""

    width: Positive = 1024
    hidden_width: Positive = 4096
    heads: Positive = 16
    blocks: Positive = 16
    codes: Positive = 4096
    code_width: Positive = 32
    classes: Positive = 1000
    scales: tuple[Positive, ...] = SCALES

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        check_scales(self.scales)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(side * side for side in self.scales)

    @property
    def tokens(self) -> int:
        """Tokens of an image, over all scales."""
        return sum(self.sizes)


class Attention(nn.Module):
    """Multi-head attention of unit queries and keys, with a learned scale per head."""

    zero_k_bias: Tensor
    """The bias of the keys, in the released file but not learned."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4)))
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.mat_qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x_RLC: Tensor, context: Context, layer: int) -> Tensor:
        """Return (R, L, C); `layer` is the place in the cache."""
        bias = torch.cat([self.q_bias, self.zero_k_bias, self.v_bias])
        qkv_RL3NH = F.linear(x_RLC, self.mat_qkv.weight, bias).unflatten(2, (3, self.heads, -1))
        q_RLNH, k_RLNH, v_RLNH = qkv_RL3NH.unbind(2)
        scale_N1 = self.scale_mul_1H11.clamp(max=_LARGEST_SCALE).exp().view(self.heads, 1)
        q_RLNH = F.normalize(q_RLNH, dim=-1) * scale_N1
        k_RLNH = F.normalize(k_RLNH, dim=-1)
        return self.proj(context.attend(layer, q_RLNH, k_RLNH, v_RLNH, scale=1.0))


class MLP(nn.Module):
    """fc2(GELU(fc1 x)), with the GELU of tanh."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_RLC: Tensor) -> Tensor:
        """Return (R, L, C)."""
        return self.fc2(elementwise(partial(F.gelu, approximate="tanh"), self.fc1(x_RLC)))


class Block(nn.Module):
    """Attention and MLP; the class gives each a scale and a shift before it and a gate after."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.attn = Attention(config.width, config.heads)
        self.ffn = MLP(config.width, config.hidden_width)
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))

    def modulation(self, class_RC: Tensor) -> Tensor:
        """Return two gates, two scales, two shifts: (R, 6, C)."""
        return _linear_of_silu(self.ada_lin, class_RC).unflatten(1, (6, -1))

    def forward(
        self, x_RLC: Tensor, modulation_R6C: Tensor, context: Context, layer: int
    ) -> Tensor:
        """Return (R, L, C)."""
        gates, scales, shifts = modulation_R6C[:, :, None].split(2, dim=1)
        h_RLC = _modulated(x_RLC, scales[:, 0], shifts[:, 0])
        x_RLC = x_RLC + gates[:, 0] * self.attn(h_RLC, context, layer)
        h_RLC = _modulated(x_RLC, scales[:, 1], shifts[:, 1])
        return x_RLC + gates[:, 1] * self.ffn(h_RLC)


class HeadNorm(nn.Module):
    """The last norm; the class gives its scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def modulation(self, class_RC: Tensor) -> Tensor:
        """Return scale and shift, (R, 2, C)."""
        return _linear_of_silu(self.ada_lin, class_RC).unflatten(1, (2, -1))

    def forward(self, x_RLC: Tensor, modulation_R2C: Tensor) -> Tensor:
        """Return (R, L, C)."""
        scale_R1C, shift_R1C = modulation_R2C.split(1, dim=1)
        return _modulated(x_RLC, scale_R1C, shift_R1C)


class VAR(nn.Module):
    """The transformer. Names of modules and buffers are those of the released weights."""

    lvl_1L: Tensor
    """The scale of every token."""
    attn_bias_for_masking: Tensor
    """Added to scores in training: a token sees its own scale and those before it."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.pos_start = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_1LC = nn.Parameter(torch.zeros(1, config.tokens, width))
        self.word_embed = nn.Linear(config.code_width, width)
        self.class_emb = nn.Embedding(config.classes + 1, width)
        self.lvl_embed = nn.Embedding(len(config.scales), width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.head_nm = HeadNorm(width)
        self.head = nn.Linear(width, config.codes)
        for name, buffer in constants(config).items():
            self.register_buffer(name, buffer)

    def places(self) -> Tensor:
        """Return what is added to each token for its scale and cell, (T, C)."""
        return self.lvl_embed(self.lvl_1L[0]) + self.pos_1LC[0]

    def modulations(self, class_RC: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a class means to the blocks, (blocks, R, 6, C), and to the head."""
        blocks = cast("Iterable[Block]", self.blocks)
        of_blocks = torch.stack([block.modulation(class_RC) for block in blocks])
        return of_blocks, self.head_nm.modulation(class_RC)

    def forward(
        self, x_RLC: Tensor, of_blocks: Tensor, of_head: Tensor, context: Context
    ) -> Tensor:
        """Return (R, L, V) logits; the modulations are those of `modulations`."""
        for layer, block in enumerate(self.blocks):
            x_RLC = block(x_RLC, of_blocks[layer], context, layer)
        return self.head(self.head_nm(x_RLC, of_head))

    def teacher_forced(self, labels_B: Tensor, inputs_BLD: Tensor) -> Tensor:
        """Return (B, T, V) logits in one pass; `inputs` are those of `Quantizer.inputs`."""
        class_BC = self.class_emb(labels_B)
        start_B1C = class_BC[:, None] + self.pos_start
        x_BTC = torch.cat([start_B1C, self.word_embed(inputs_BLD)], dim=1) + self.places()
        context = Context(mask=self.attn_bias_for_masking[0, 0] == 0)
        return self(x_BTC, *self.modulations(class_BC), context)


def constants(config: VARConfig) -> dict[str, Tensor]:
    """Return the buffers that a released file repeats: each token's scale, and the mask."""
    level_T = torch.cat([torch.full((n,), level) for level, n in enumerate(config.sizes)])
    hidden = level_T[:, None] < level_T
    bias = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
    return {"lvl_1L": level_T[None], "attn_bias_for_masking": bias[None, None]}


def load_var(path: Path, config: VARConfig) -> VAR:
    """Load the released transformer (a flat pickle) or safetensors, strictly.

    Raises UserError naming the file, for tensors that do not fit, for the first release, whose
    attention was another one, and for buffers that say another layout than the settings.
    """
    tensors = read_tensors(path)
    if _NEW_IN_RELEASE not in tensors and "blocks.0.attn.mat_qkv.weight" in tensors:
        raise UserError(
            f"{path}: no {_NEW_IN_RELEASE}; this is the file of before 2024-04-15, of another"
            " attention: fetch it again"
        )
    with torch.device("meta"):
        model = VAR(config)
    repeated = constants(config)
    model = with_weights(model, tensors, path, masks=repeated)
    for name, expected in repeated.items():
        if not torch.equal(model.get_buffer(name), expected):
            raise UserError(f"{path}: {name} is not that of the scales {list(config.scales)}")
    if any(buffer.any() for name, buffer in model.named_buffers() if "zero_k_bias" in name):
        raise UserError(f"{path}: a zero_k_bias is not zero")
    return model


def _linear_of_silu(layers: nn.Sequential, class_RC: Tensor) -> Tensor:
    """Return what SiLU and a linear layer, as the released names have them, make of a class."""
    return layers[1](elementwise(layers[0], class_RC))


def _modulated(x_RLC: Tensor, scale_R1C: Tensor, shift_R1C: Tensor) -> Tensor:
    """Return a norm without weights, scaled and shifted."""
    normed_RLC = F.layer_norm(x_RLC, x_RLC.shape[-1:], eps=_EPSILON)
    return torch.addcmul(shift_R1C, normed_RLC, 1 + scale_R1C)
