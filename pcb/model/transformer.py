"""The transformer of the paper's section 4: one forward pass for training and for decoding.

Knows tokens as codes, code vectors and rows of position tables; knows nothing of images, of how a
tokenizer makes codes, or of how the next code is picked.

Letters: B batch, L positions of a call, T tokens of a call, D width, C code dim, V codebook size.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcb.config import Model
from pcb.model.inputs import Inputs
from pcb.model.layers import Attention, AttentionContext, Layer, Modulations, SwiGLU
from pcb.model.precomputed import NOTHING, Precomputed
from pcb.model.rotary import Phases, RotaryPhases

PUBLISHED_STD = 0.02
"""Deviation of the layers' initial weights in the released code."""


class CodeMLP(nn.Sequential):
    """C -> 64 -> 64 -> D with SiLU: how a code vector enters the transformer."""

    def __init__(self, code_dim: int, width: int, *, last_bias: bool = True) -> None:
        super().__init__(
            nn.Linear(code_dim, 64),
            nn.SiLU(),
            nn.Linear(64, 64),
            nn.SiLU(),
            nn.Linear(64, width, bias=last_bias),
        )

    def keep_variance(self) -> None:
        """Begin so that unit code vectors come out with a mean square of about 1 per entry."""
        linears = [part for part in self if isinstance(part, nn.Linear)]
        # A unit vector's squares sum to 1; the mean square of SiLU(x) is 0.356 for x ~ N(0, 1).
        squares = (1 / linears[0].in_features, 0.356, 0.356)
        for linear, mean_square in zip(linears, squares, strict=True):
            set_gain(linear, mean_square)


def set_gain(linear: nn.Linear, mean_square: float) -> None:
    """Begin so that inputs of this mean square come out with a mean square of 1."""
    nn.init.normal_(linear.weight, std=(mean_square * linear.in_features) ** -0.5)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def project_to_float32(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x weight^T + bias as it is summed up, in float32, where weights have 16 bits.

    bfloat16 has 8 significant bits, and guidance would multiply the error of rounding to them.
    """
    if weight.dtype == torch.float32:
        return F.linear(x, weight, bias)
    if x.is_cuda:
        product = torch.mm(x.flatten(0, -2), weight.t(), out_dtype=torch.float32)
        return product.view(*x.shape[:-1], -1) + bias
    # Products of 16-bit numbers are exact in float32; a CPU only sums them up so if they are such.
    return F.linear(x.float(), weight.float(), bias.float())


# Nothing in a layer is random.
_call_again_for_gradients = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


class Transformer(nn.Module):
    """Block-causal transformer over the scales of one pyramid.

    `sizes` are the sides of the scales; `codebook_VC` holds the tokenizer's unit vectors, a buffer
    that the optional head MLP reads and that ties the weights to their tokenizer.
    """

    codebook_VC: Tensor

    def __init__(
        self, settings: Model, sizes: Items[int], num_classes: int, codebook_VC: Tensor
    ) -> None:
        super().__init__()
        self.settings = settings
        self.sizes = tuple(sizes)
        self.num_classes = num_classes
        self.tokens = sum(size * size for size in sizes)
        self.recompute = False
        """Whether a layer's activations are computed again for its gradients, not kept."""
        width, (codes, code_dim) = settings.width, codebook_VC.shape
        self.register_buffer("codebook_VC", codebook_VC.detach().clone().float())
        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.position_embedding = nn.Embedding(self.tokens, width)
        self.code_mlp = CodeMLP(code_dim, width)
        self.source_projection = nn.Linear(width, width)
        self.combine = nn.Linear(4 * width, width)
        # The null position and null code of tokens without a previous-block token.
        self.empty_position = nn.Parameter(torch.zeros(width))
        self.empty_code = nn.Parameter(torch.zeros(width))
        self.rotary = RotaryPhases(
            sizes, width // settings.heads, settings.heads, settings.mixing_layers
        )
        modulation_std = PUBLISHED_STD if settings.init == "as_published" else 0.0
        self.layers = nn.ModuleList(
            Layer(width, settings.heads, settings.hidden, modulation_std=modulation_std)
            for _ in range(settings.layers)
        )
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, codes)
        self.head_mlp = CodeMLP(code_dim, width, last_bias=False) if settings.head_mlp else None
        self._initialize()

    @property
    def class_row(self) -> int:
        """Row of the class token in the rotary table."""
        return self.tokens

    @property
    def null_row(self) -> int:
        """Row of the null position in the rotary table."""
        return self.tokens + 1

    def forward(
        self, inputs: Inputs, context: AttentionContext, precomputed: Precomputed = NOTHING
    ) -> Tensor:
        """Return what `logits` reads of the T tokens, (B, T, D): the last layer's output, normed.

        Training gives all tokens, the class token and the block-causal mask; decoding gives one
        block, a cache and no mask, since a block sees everything that is cached. What is
        precomputed changes nothing but rounding. The head is a call of its own, since the logits
        of all tokens would not fit into memory, and those of a guided branch's past are not read.
        """
        tables, phases, modulations = (
            precomputed.tables,
            precomputed.phases,
            precomputed.modulations,
        )
        x_BLD = self.embed(inputs) if tables is None else tables.embed(inputs, context.start)
        # Under autocast, products are in 16 bits, and what they add up to stays in float32.
        x_BLD = x_BLD.to(self.class_embedding.weight.dtype)
        rows_L, previous_rows_L = inputs.rows_T, inputs.previous_rows_T
        if inputs.with_class or modulations is None:
            label_BD = self.class_embedding(inputs.labels_B)
        if inputs.with_class:
            x_BLD = torch.cat([label_BD[:, None], x_BLD], dim=1)
            # paper: the class token's key mixes its own row with itself, not the null position.
            rows_L, previous_rows_L = (
                F.pad(rows, (1, 0), value=self.class_row) for rows in (rows_L, previous_rows_L)
            )
        if phases is None:
            phases = self.rotary(rows_L, previous_rows_L)
        else:
            phases = phases.at(slice(context.start, context.start + x_BLD.shape[1]))
        if modulations is None:
            modulations = self.modulations(label_BD)
        x_BLD = self.run_layers(x_BLD, modulations, phases, context)
        return self.norm(x_BLD[:, 1:] if inputs.with_class else x_BLD)

    def modulations(self, label_BD: Tensor) -> Iterator[Modulations]:
        """Yield every layer's modulations for these class embeddings.

        Made when a layer takes them, so that its gradients come with those of the layer.
        """
        condition_BD = F.silu(label_BD)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer.modulations(condition_BD)

    def run_layers(
        self,
        x_BLD: Tensor,
        modulations: Iterable[Modulations],
        phases: Phases,
        context: AttentionContext,
    ) -> Tensor:
        """Return (B, L, D): `x_BLD` after all layers."""
        for i, (layer, modulation) in enumerate(zip(self.layers, modulations, strict=True)):
            call = (x_BLD, modulation, phases.of(i), context, i)
            x_BLD = _call_again_for_gradients(layer, *call) if self.recompute else layer(*call)
        return x_BLD

    def embed(self, inputs: Inputs) -> Tensor:
        """Return the (B, T, D) inputs: position and conditioning, previous position and code."""
        batch, dtype = len(inputs.labels_B), self.combine.weight.dtype
        here_TD = self.position_embedding(inputs.rows_T)
        conditioning_BTC = inputs.conditioning_BTC.to(dtype)
        conditioning_BTD = self.source_projection(self.code_mlp(conditioning_BTC))
        none_T1 = (inputs.previous_rows_T == self.null_row)[:, None]
        position_TD = self.position_embedding(inputs.previous_rows_T.clamp(max=self.tokens - 1))
        position_TD = torch.where(none_T1, self.empty_position, position_TD)
        code_BTD = self.code_mlp(self.codebook_VC[inputs.previous_BT].to(dtype))
        code_BTD = torch.where(none_T1, self.empty_code.to(code_BTD.dtype), code_BTD)
        here_BTD, position_BTD = (part.expand(batch, -1, -1) for part in (here_TD, position_TD))
        parts = [here_BTD, conditioning_BTD, position_BTD, code_BTD]
        return self.combine(torch.cat(parts, dim=-1))

    def logits(self, hidden_BTD: Tensor, head_VD: Tensor | None = None) -> Tensor:
        """Return logits over the codebook, (B, T, V), in float32 unless under autocast.

        `head_VD` is `head_weight()` if it is known already.
        """
        weight_VD = self.head_weight() if head_VD is None else head_VD
        return project_to_float32(hidden_BTD, weight_VD, self.head.bias)

    def head_weight(self, added_VD: Tensor | None = None) -> Tensor:
        """Return the head's weight, (V, D), to which the head MLP, if any, adds.

        `added_VD` is `head_mlp_weight()` if it is known already.
        """
        added_VD = self.head_mlp_weight() if added_VD is None else added_VD
        return self.head.weight if added_VD is None else self.head.weight + added_VD

    def head_mlp_weight(self) -> Tensor | None:
        """Return what the head MLP adds to the head's weight, (V, D)."""
        if self.head_mlp is None:
            return None
        added_VD: Tensor = self.head_mlp(self.codebook_VC.to(self.head.weight.dtype))
        return added_VD

    def round_to(self, dtype: torch.dtype) -> None:
        """Round the weights to a type, but not the phases, nor the codebook, which is no weight.

        As under autocast in training: both enter in float32, and what is computed with them is
        rounded. Unlike there, the sum along the layers is rounded too.
        """
        for part in self.children():
            if part is not self.rotary:
                part.to(dtype)
        for parameter in self.parameters(recurse=False):
            parameter.data = parameter.data.to(dtype)

    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def _initialize(self) -> None:
        """Set the start of training (method section 4); the head is zero: the first loss is ln V.

        As published, Linears inside the layers are N(0, 0.02); embeddings, the code MLPs and the
        two input projections keep PyTorch's defaults, through which a unit code vector reaches the
        first layer at a hundredth of a position's size. `narrow` keeps PyTorch's defaults in the
        layers and lets the path of the code vectors keep their variance.
        """
        if self.settings.init == "narrow":
            self.code_mlp.keep_variance()
            set_gain(self.source_projection, 1.0)
            set_gain(self.combine, 1.0)
        else:
            for part in self.layers.modules():
                if isinstance(part, Attention | SwiGLU):
                    for linear in part.children():
                        assert isinstance(linear, nn.Linear)
                        nn.init.normal_(linear.weight, std=PUBLISHED_STD)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
