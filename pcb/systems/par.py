"""PAR (arXiv 2412.15119): the same place of every region at once.

Sequence: the class token, the first code of each of r regions one by one, r - 1 learned start
tokens, then the other codes in groups of r. Position p < T predicts token p of the order; from
position r on the r positions of a group see one another. Letters as in `pcb.systems.stepping`.
"""

import torch
from torch import Tensor, nn

from pcb.order.regions import region_blocks, region_order
from pcb.published.guidance import OFF, Guidance
from pcb.systems.backbone import Backbone, Call, Positive, Size, causal, rotary_table
from pcb.systems.stepping import FixedOrderDecoder


class ParSize(Size, frozen=True, kw_only=True):
    """The size of a model, and r, the regions of its grid: so many tokens are sampled at once."""

    parallel_tokens: Positive

    def __post_init__(self) -> None:
        super().__post_init__()
        region_order(self.side, self.parallel_tokens)  # Refuses what cannot be cut.


class StartTokens(nn.Module):
    """The learned tokens that fill up the first group."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.special_embeddings = nn.Embedding(count, width)


class Par(Backbone):
    """The base transformer and its start tokens."""

    def __init__(self, size: ParSize) -> None:
        super().__init__(size)
        self.parallel = size.parallel_tokens
        self.spe_tok_embeddings = StartTokens(self.parallel - 1, size.width)
        nn.init.normal_(self.spe_tok_embeddings.special_embeddings.weight, std=0.02)

    def start_tokens(self, rows: int) -> Tensor:
        """Return the (R, r - 1, C) start tokens."""
        return self.spe_tok_embeddings.special_embeddings.weight.expand(rows, -1, -1)

    def sequence_cells(self) -> Tensor:
        """Return the row-major cell of every position, -1 for the class and start tokens."""
        order_T, r = torch.from_numpy(region_order(self.size.side, self.parallel)), self.parallel
        nowhere = torch.full((r,), -1)
        return torch.cat([nowhere[:1], order_T[:r], nowhere[1:], order_T[r:]])

    def sequence_mask(self) -> Tensor:
        """Return the (L, L) mask, True where a position sees another."""
        positions = self.size.tokens + self.parallel
        group_L = torch.arange(positions) // self.parallel
        alike = (group_L[:, None] == group_L) & (group_L > 0)
        return causal(positions) | alike


class ParDecoder(FixedOrderDecoder):
    """r calls of one token, then T / r - 1 calls of r; the last group is never fed."""

    def __init__(self, model: Par, guidance: Guidance = OFF) -> None:
        side, self._parallel = model.size.side, model.parallel
        super().__init__(
            model,
            guidance,
            region_blocks(side, model.parallel),
            order=torch.from_numpy(region_order(side, model.parallel)),
            positions=model.size.tokens + model.parallel,
        )
        self._start_tokens = model.start_tokens

    def read(self, step: int) -> Tensor:
        """Feed the block before, with the start tokens where groups begin."""
        rows = self.rows.count(len(self.spans[step]))
        if step == 0:
            x_RnC, phases, start = self.class_tokens(rows), self.phases[:1, None], 0
        else:
            before = self.spans[step - 1]
            x_RnC, phases = self.code_tokens(before, rows), self.code_phases(before)
            start = before.first + (1 if step <= self._parallel else self._parallel)
        if step == self._parallel:
            x_RnC = torch.cat([x_RnC, self._start_tokens(rows)], dim=1)
            nowhere = self.phases[:1, None].expand(self._parallel - 1, -1, -1, -1)
            phases = torch.cat([phases, nowhere])
        return self.model.head(self.run(x_RnC, phases, start)[0])


def teacher_forced(
    model: Par, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (B, T, V) logits of codes given those before, and the codes, in sampling order."""
    device, r = codes_BT.device, model.parallel
    cells_L = model.sequence_cells().to(device)
    x_BLC = model.tok_embeddings(codes_BT[:, cells_L.clamp(min=0)])
    x_BLC[:, 0] = model.cls_embedding(labels_B)
    x_BLC[:, 1 + r : 2 * r] = model.start_tokens(len(labels_B))
    phases = rotary_table(model.size).to(device)[cells_L + 1][:, None]
    call = Call(phases=phases, mask=model.sequence_mask().to(device))
    x_BTC = model.run(x_BLC, call)[:, : model.size.tokens].contiguous()
    return model.head(x_BTC), codes_BT[:, cells_L[cells_L >= 0]]
