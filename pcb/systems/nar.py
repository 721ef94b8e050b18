"""NAR (arXiv 2503.10696): one anti-diagonal after another, by two heads.

A token's right head speaks of the cell to its right, its below head, behind a block more, of the
cell below; a cell that both speak of has the mean of their logits. The class token, which speaks
of the first cell, and every token on an earlier or the same diagonal is seen. Letters as in
`pcb.systems.stepping`; n m tokens of a block and of the one before.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcb.order.diagonals import diagonal_blocks, diagonal_order
from pcb.published.guidance import OFF, Guidance
from pcb.systems.backbone import Backbone, Call, Norm, Size
from pcb.systems.llamagen import raster_sequence
from pcb.systems.stepping import FixedOrderDecoder


class Nar(Backbone):
    """The base transformer, whose head is the right one, and the below head with its block."""

    extra_blocks = 1
    passed_over = frozenset({"freqs_cis"})

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.medusa_norm = Norm(size.width, size.norm_eps)
        self.medusa_output = nn.Linear(size.width, size.codes, bias=False)
        nn.init.normal_(self.medusa_output.weight, std=0.02)

    def sequence_mask(self) -> Tensor:
        """Return the (L, L) mask in raster order: earlier diagonals, the own one, the class."""
        cells = torch.arange(self.size.tokens)
        diagonal = cells // self.size.side + cells % self.size.side
        diagonal_L = torch.cat([torch.tensor([-1]), diagonal])
        return diagonal_L[:, None] >= diagonal_L

    def heads(self, x_RmC: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """Return the (R, m, V) float32 logits of the right and the below head."""
        below_RmC = self.layers[self.size.blocks](x_RmC, call, self.size.blocks)
        return self.head(x_RmC), self.medusa_output(self.medusa_norm(below_RmC)).float()


class NarDecoder(FixedOrderDecoder):
    """2g - 1 calls: the class token, then every diagonal but the last.

    The cache is in sampling order, so that a call sees all that it holds.
    """

    def __init__(self, model: Nar, guidance: Guidance = OFF) -> None:
        side = model.size.side
        order = diagonal_order(side)
        super().__init__(
            model,
            guidance,
            diagonal_blocks(side),
            order=torch.from_numpy(order),
            positions=1 + len(order),
        )
        rank_T = np.argsort(order)
        speakers = []
        for before, span in zip(self.spans, self.spans[1:], strict=False):
            head_2n, cell_2n = _speakers(side, order[span.first : span.last])
            speakers.append(head_2n * len(before) + rank_T[cell_2n] - before.first)
        self._speakers = [torch.from_numpy(found).to(self.device) for found in speakers]
        self._heads = model.heads

    def read(self, step: int) -> Tensor:
        """Feed the diagonal before; return the logits of the next, mixed of both heads."""
        if step == 0:
            x_R1C = self.class_tokens(self.rows.count(1))
            right, below = self._heads(*self.run(x_R1C, self.phases[:1, None], 0))
            return (right + below) / 2
        before = self.spans[step - 1]
        x_RmC = self.code_tokens(before, self.rows.count(len(before)))
        heads = self._heads(*self.run(x_RmC, self.code_phases(before), before.first + 1))
        return _mixed(*heads, self._speakers[step - 1])


def _speakers(side: int, cells_n: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return the heads (0 right, 1 below) and the cells, (2, n), whose logits a cell's are made of.

    Twice the same where one alone speaks of a cell; the first cell is not among `cells_n`.
    """
    row_n, column_n = np.divmod(cells_n, side)
    head_2n = np.stack([np.where(column_n > 0, 0, 1), np.where(row_n > 0, 1, 0)])
    return head_2n, cells_n - np.where(head_2n == 0, 1, side)


def _mixed(right_RmV: Tensor, below_RmV: Tensor, speakers_2n: Tensor) -> Tensor:
    """Return the (R, n, V) means of two logits each; right heads are numbered before below ones."""
    logits = torch.cat([right_RmV, below_RmV], dim=1)
    return (logits[:, speakers_2n[0]] + logits[:, speakers_2n[1]]) / 2


def both_heads(model: Nar, labels_B: Tensor, codes_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (B, 1 + T, V) logits of both heads at all positions, in raster order."""
    x_BLC, call = raster_sequence(model, labels_B, codes_BT)
    return model.heads(model.run(x_BLC, call), call)


def teacher_forced(
    model: Nar, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (B, T, V) logits of raster codes given the diagonals before, and the codes."""
    right, below = both_heads(model, labels_B, codes_BT)
    tokens = model.size.tokens
    head_2n, cell_2n = _speakers(model.size.side, np.arange(1, tokens))
    speakers = torch.from_numpy(head_2n * tokens + cell_2n).to(codes_BT.device)
    others = _mixed(right[:, 1:], below[:, 1:], speakers)
    return torch.cat([(right[:, :1] + below[:, :1]) / 2, others], dim=1), codes_BT
