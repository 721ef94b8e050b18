"""LlamaGen (arXiv 2406.06525): raster order, one token per call.

Sequence: the class token, then the codes in raster order; position p predicts token p. Letters as
in `pcb.systems.stepping`.
"""

import torch
from torch import Tensor

from pcb.order.raster import raster_blocks, raster_order
from pcb.published.guidance import OFF, Guidance
from pcb.systems.backbone import Backbone, Call, rotary_table
from pcb.systems.stepping import FixedOrderDecoder


class LlamaGen(Backbone):
    """The base transformer as it is."""

    passed_over = frozenset({"freqs_cis"})


class LlamaGenDecoder(FixedOrderDecoder):
    """T calls: the class token, then each code when it is sampled, but for the last."""

    def __init__(self, model: LlamaGen, guidance: Guidance = OFF) -> None:
        side = model.size.side
        order = torch.from_numpy(raster_order(side))
        super().__init__(model, guidance, raster_blocks(side), order=order, positions=side * side)

    def read(self, step: int) -> Tensor:
        """Feed the token before; return (R, 1, V) logits."""
        rows = self.rows.count(1)
        if step == 0:
            x_R1C, phases = self.class_tokens(rows), self.phases[:1, None]
        else:
            before = self.spans[step - 1]
            x_R1C, phases = self.code_tokens(before, rows), self.code_phases(before)
        return self.model.head(self.run(x_R1C, phases, step)[0])


def teacher_forced(
    model: Backbone, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (B, T, V) logits of raster codes given those before, and the codes, both in raster."""
    x_BLC, call = raster_sequence(model, labels_B, codes_BT)
    return model.head(model.run(x_BLC, call)[:, :-1].contiguous()), codes_BT


def raster_sequence(model: Backbone, labels_B: Tensor, codes_BT: Tensor) -> tuple[Tensor, Call]:
    """Return the (B, 1 + T, C) tokens of images with all codes, and the call that they make."""
    device = codes_BT.device
    tokens = [model.cls_embedding(labels_B)[:, None], model.tok_embeddings(codes_BT)]
    phases = rotary_table(model.size).to(device)[model.sequence_cells() + 1][:, None]
    call = Call(phases=phases, mask=model.sequence_mask().to(device))
    return torch.cat(tokens, dim=1), call
