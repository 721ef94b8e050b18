"""Parts of a forward pass that stay the same from step to step of decoding, computed once.

Positions, phases and the head depend on the model and the schedule; what the norms take of a class
depends on the image.

Letters: B batch, L positions of the sequence, T its tokens, n tokens of a call, D width, C code
dim, K hidden width of the code MLP, V codebook size.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.model.inputs import Inputs
from pcb.model.layers import Modulations
from pcb.model.rotary import Phases
from pcb.model.sequence import Sequence

if TYPE_CHECKING:
    from pcb.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Precomputed:
    """What a forward pass need not compute; it computes what is None.

    tables, phases: of all L positions; a call takes those from `AttentionContext.start` on.
    modulations: every layer's, for the images of the call.
    """

    tables: "EmbeddingTables | None" = None
    phases: Phases | None = None
    modulations: Iterable[Modulations] | None = None


NOTHING = Precomputed()


class EmbeddingTables:
    """The transformer's embedding as a sum of table entries and one small product.

    `Transformer.embed` is linear but for the hidden layers of the code MLP: in
    combine(here, P M h(conditioning), previous, M h(code)), h is those, M the MLP's last layer, P
    the projection. Hence here and previous are one vector per position, M h(code) one per code, and
    both after `combine` already; P M becomes one narrow matrix. Products are made in float32.
    """

    def __init__(self, model: "Transformer", sequence: Sequence) -> None:
        """`sequence` is on the model's device."""
        dtype = model.combine.weight.dtype
        project, last = model.source_projection, model.code_mlp[-1]
        assert isinstance(last, nn.Linear)
        combine_DD = model.combine.weight.float().chunk(4, dim=1)
        here_DD, conditioning_DD, previous_DD, code_DD = combine_DD
        positions_TD = model.position_embedding.weight.float()
        rows_T, none_T = (
            sequence.previous_rows_L[1:],
            sequence.previous_rows_L[1:] == model.null_row,
        )
        previous_TD = positions_TD[rows_T.clamp(max=model.tokens - 1)]
        previous_TD = torch.where(none_T[:, None], model.empty_position.float(), previous_TD)
        fixed_TD = F.linear(positions_TD[sequence.rows_L[1:]], here_DD, model.combine.bias.float())
        fixed_TD = fixed_TD + F.linear(previous_TD, previous_DD)
        fixed_TD = fixed_TD + F.linear(
            linear_in_float32(project, last.bias.float()), conditioning_DD
        )
        codes_VD = model.codebook_VC.float()
        for part in model.code_mlp:
            codes_VD = (
                linear_in_float32(part, codes_VD) if isinstance(part, nn.Linear) else part(codes_VD)
            )
        # One more entry than codes, for tokens without a previous-block token.
        codes_VD = torch.cat([codes_VD, model.empty_code.float()[None]])
        self._hidden = nn.Sequential(*list(model.code_mlp)[:-1])
        self._none_T = none_T
        self._fixed_TD = fixed_TD.to(dtype)
        narrow_DK = conditioning_DD @ project.weight.float() @ last.weight.float()
        self._conditioning_DK = narrow_DK.to(dtype)
        self._codes_VD = F.linear(codes_VD, code_DD).to(dtype)

    def embed(self, inputs: Inputs, start: int) -> Tensor:
        """Return the (B, n, D) inputs of a call that begins at a position of the sequence."""
        first = start if inputs.with_class else start - 1
        tokens = slice(first, first + len(inputs.rows_T))
        null_code = len(self._codes_VD) - 1
        previous_Bn = inputs.previous_BT.masked_fill(self._none_T[tokens], null_code)
        hidden_BnK = self._hidden(inputs.conditioning_BTC.to(self._fixed_TD.dtype))
        x_BnD = F.linear(hidden_BnK, self._conditioning_DK)
        return x_BnD + self._fixed_TD[tokens] + F.embedding(previous_Bn, self._codes_VD)


def linear_in_float32(linear: nn.Linear, x: Tensor) -> Tensor:
    """Return what a Linear makes of float32, whatever the type of its weights."""
    return F.linear(x, linear.weight.float(), None if linear.bias is None else linear.bias.float())


def phases_of(model: "Transformer", sequence: Sequence) -> Phases:
    """Return the phases of all positions, stored with all cosines contiguous, and all sines."""

    def apart(phases: Tensor) -> Tensor:
        return phases.movedim(-1, 0).contiguous().movedim(0, -1)

    phases = model.rotary(sequence.rows_L, sequence.previous_rows_L)
    return Phases(mixing=tuple(map(apart, phases.mixing)), shared=apart(phases.shared))
