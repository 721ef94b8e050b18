"""What a model computes of a schedule before any code is drawn, once instead of at every step.

Each part can be switched off (`pcb.config.Speed`); the model's own functions then compute it at
every step, as they do in training.

Letters: B images, R rows of a call (one or two for an image), T tokens of the sequence, L positions
(T and the class token), n tokens of a call, N heads, H head dim, D width, C code dim, V codebook
size.
"""

from collections.abc import Sequence as Items
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.config import Speed
from pcb.model.layers import Condition, Layer
from pcb.model.sequence import Sequence
from pcb.model.transformer import Inputs, Transformer


class Prepared:
    """A model's view of one schedule; tokens are in the order of the sequence."""

    def __init__(self, model: Transformer, sequence: Sequence, speed: Speed) -> None:
        """`sequence` is on the model's device."""
        self.model, self.sequence, self.speed = model, sequence, speed
        self.dtype = model.head.weight.dtype
        self.mask_LL = sequence.mask_LL()
        self.before_T = (sequence.before_L[1:] - 1).clamp(min=0)
        self._tables = _InputTables(model, sequence) if speed.tables else None
        self._head_VD = model.head_weight() if speed.tables else None
        self._phases = self._all_phases() if speed.phases else None

    def embed(self, first: int, last: int, source_BTC: Tensor, codes_BT: Tensor) -> Tensor:
        """Return the (B, n, D) inputs of tokens first..last, as `Transformer.embed` does."""
        source_BnC = source_BTC[:, first:last].to(self.dtype)
        before_Bn = codes_BT[:, self.before_T[first:last]]
        if self._tables is not None:
            return self._tables.embed(first, last, source_BnC, before_Bn)
        inputs = Inputs(
            labels_B=codes_BT[:, 0],
            source_BTC=source_BnC,
            before_BTC=self.model.codebook_VC[before_Bn].to(self.dtype),
            rows_T=self.sequence.rows_L[first + 1 : last + 1],
            before_rows_T=self.sequence.before_rows_L[first + 1 : last + 1],
            with_class=False,
        )
        return self.model.embed(inputs)

    def conditions(self, labels_R: Tensor) -> Tensor:
        """Return what all norms take of the rows' classes: (layers, 2, 2, R, 1, D), or (R, D).

        The first are the shifts and scales of both norms of every layer, the other is what layers
        make them of.
        """
        condition_RD = F.silu(self.model.class_embedding(labels_R))
        if not self.speed.modulation:
            return condition_RD
        norms = [
            torch.stack([torch.stack(norm) for norm in layer.modulations(condition_RD)])
            for layer in self.model.layers
            if isinstance(layer, Layer)
        ]
        return torch.stack(norms)

    def of_rows(self, conditions: Tensor, start: int, stop: int) -> list[Condition]:
        """Return every layer's condition for the rows start..stop."""
        if not self.speed.modulation:
            return [conditions[start:stop]] * len(self.model.layers)
        return [
            ((first[0], first[1]), (second[0], second[1]))
            for first, second in conditions[:, :, :, start:stop].unbind(0)
        ]

    def phases(self, start: int, stop: int) -> tuple[Tensor, Items[Tensor]]:
        """Return the rotary phases of positions start..stop, as `RotaryPhases` does."""
        if self._phases is None:
            rows_L, before_rows_L = self.sequence.rows_L, self.sequence.before_rows_L
            phases: tuple[Tensor, Items[Tensor]] = self.model.rotary(
                rows_L[start:stop], before_rows_L[start:stop]
            )
            return phases
        here, mixed = self._phases
        return here[start:stop], [phases[start:stop] for phases in mixed]

    def logits(self, hidden_RnD: Tensor) -> Tensor:
        """Return logits over the codebook, (R, n, V)."""
        if self._head_VD is None:
            return self.model.logits(hidden_RnD)
        return F.linear(hidden_RnD, self._head_VD, self.model.head.bias)

    def _all_phases(self) -> tuple[Tensor, Items[Tensor]]:
        """Return the phases of all positions, cosines and sines apart."""
        here, mixed = self.model.rotary(self.sequence.rows_L, self.sequence.before_rows_L)
        return self._apart(here), [self._apart(phases) for phases in mixed]

    def _apart(self, phases_LNH2: Tensor) -> Tensor:
        """Return the same phases, stored so that all cosines are contiguous, and all sines."""
        return phases_LNH2.movedim(-1, 0).contiguous().movedim(0, -1)


class _InputTables:
    """The transformer's inputs as a sum of table entries and one small product.

    `Transformer.embed` is linear but for the hidden layers of the code MLP: in
    combine(here, P M h(source), before, M h(code)), h is those, M the MLP's last layer, P the
    source's projection. Hence here and before are one vector a token, M h(code) one a code, and
    both after `combine` already; P M becomes one narrow matrix. Products are made in float32.
    """

    def __init__(self, model: Transformer, sequence: Sequence) -> None:
        dtype = model.head.weight.dtype
        mlp = deepcopy(model.code_mlp).float()
        project = deepcopy(model.source_projection).float()
        combine = deepcopy(model.combine).float()
        last = mlp[-1]
        assert isinstance(last, nn.Linear)
        here_DD, source_DD, before_DD, code_DD = combine.weight.chunk(4, dim=1)
        positions_TD = model.position_embedding.weight.float()
        before_rows_T = sequence.before_rows_L[1:]
        none_T1 = (before_rows_T == model.empty_row)[:, None]
        before_TD = positions_TD[before_rows_T.clamp(max=model.tokens - 1)]
        before_TD = torch.where(none_T1, model.empty_position.float(), before_TD)
        fixed_TD = F.linear(positions_TD[sequence.rows_L[1:]], here_DD, combine.bias)
        fixed_TD = fixed_TD + F.linear(before_TD, before_DD)
        fixed_TD = fixed_TD + F.linear(project(last.bias), source_DD)
        # One more entry than codes, for tokens that have none one block earlier.
        codes_VD = torch.cat([mlp(model.codebook_VC.float()), model.empty_code.float()[None]])
        self._hidden = nn.Sequential(*list(model.code_mlp)[:-1])
        self._none_T = none_T1[:, 0]
        self._fixed_TD = fixed_TD.to(dtype)
        self._source_DK = (source_DD @ project.weight @ last.weight).to(dtype)
        self._codes_VD = F.linear(codes_VD, code_DD).to(dtype)

    def embed(self, first: int, last: int, source_BnC: Tensor, before_Bn: Tensor) -> Tensor:
        """Return the (B, n, D) inputs of tokens first..last."""
        empty = len(self._codes_VD) - 1
        before_Bn = before_Bn.masked_fill(self._none_T[first:last], empty)
        source_BnD = F.linear(self._hidden(source_BnC), self._source_DK)
        return source_BnD + self._fixed_TD[first:last] + F.embedding(before_Bn, self._codes_VD)
