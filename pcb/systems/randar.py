"""RandAR (arXiv 2412.01827): a random order per image, in blocks that grow.

Sequence: the class token, then for each token of the order an instruction, which says where, and
the code: P(o_0), x(o_0), P(o_1), ...; the instruction's position predicts the code. While a block
is sampled its instructions stand side by side; the next call writes them anew, each before its
code. So a block's tokens see the earlier instructions of their block, and none of its codes.
Letters as in `pcb.systems.stepping`.
"""

import torch
from torch import Tensor, nn

from pcb.order.random import cosine_blocks
from pcb.published.guidance import OFF, Guidance
from pcb.runtime.device import send
from pcb.systems.backbone import Backbone, Call, Size, causal, rotary_table, rotate
from pcb.systems.stepping import FamilyDecoder


class RandAr(Backbone):
    """The base transformer and the vector that instructions are made of."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.pos_instruct_embeddings = nn.Parameter(torch.empty(1, size.width))
        nn.init.normal_(self.pos_instruct_embeddings, std=0.02)

    def sequence_mask(self) -> Tensor:
        """Return the (L, L) mask: causal, over instructions and codes."""
        return causal(1 + 2 * self.size.tokens)

    def instructions(self, phases: Tensor) -> Tensor:
        """Return (..., C) instructions for cells of these phases, (..., 1, H/2, 2)."""
        heads_NH = self.pos_instruct_embeddings.view(self.size.heads, -1)
        return rotate(heads_NH, phases).flatten(-2)


class RandArDecoder(FamilyDecoder):
    """As many calls as `cosine_blocks` has blocks; the last block's codes are never fed."""

    def __init__(self, model: RandAr, guidance: Guidance = OFF, *, steps: int | None) -> None:
        """`steps`: what the schedule is made for; None samples one token per call."""
        tokens = model.size.tokens
        positions = 1 + 2 * tokens
        super().__init__(model, guidance, cosine_blocks(tokens, steps), positions=positions)
        self._instructions = model.instructions
        self._orders_BT = torch.empty(0, tokens, dtype=torch.int64, device=self.device)
        self._mask_LL = model.sequence_mask().to(self.device)

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch."""
        assert orders_BT is not None, "every image needs an order"
        super().begin(labels_B)
        if self._orders_BT.shape != orders_BT.shape:
            self._orders_BT = torch.empty_like(orders_BT, device=self.device)
        self._orders_BT.copy_(send(orders_BT, self.device))

    def cells(self, step: int) -> Tensor:
        """Return the (B, n) cells of a block's tokens."""
        span = self.spans[step]
        return self._orders_BT[:, span.first : span.last]

    def read(self, step: int) -> Tensor:
        """Feed the block before, each code behind its instruction, and a block's instructions."""
        span, before = self.spans[step], self.spans[step - 1] if step else None
        image_R = self.rows.image_R[: self.rows.count(len(span))]
        orders_RT = self._orders_BT[image_R]
        new = orders_RT[:, span.first : span.last]
        if before is None:
            phases = self.phases[new + 1][:, :, None]
            x = torch.cat([self.class_tokens(len(image_R)), self._instructions(phases)], dim=1)
            nowhere = self.phases[:1].expand(len(image_R), 1, 1, -1, -1)
            phases, start = torch.cat([nowhere, phases], dim=1), 0
        else:
            old = orders_RT[:, before.first : before.last].repeat_interleave(2, dim=1)[:, 1:]
            phases = self.phases[torch.cat([old, new], dim=1) + 1][:, :, None]
            x = self._instructions(phases)
            x[:, : 2 * len(before) : 2] = self.code_tokens(before, len(image_R))
            start = 2 * before.first + 2
        stop = start + x.shape[1]
        x, _ = self.run(x, phases, start, self._mask_LL[start:stop, :stop])
        return self.model.head(x[:, -len(span) :].contiguous())


def teacher_forced(
    model: RandAr, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (B, T, V) logits of codes given those before, and the codes, in sampling order."""
    assert orders_BT is not None, "every image needs an order"
    device, table = codes_BT.device, rotary_table(model.size).to(codes_BT.device)
    phases = table[orders_BT + 1][:, :, None]
    sampled_BT = codes_BT.gather(1, orders_BT)
    pairs = torch.stack([model.instructions(phases), model.tok_embeddings(sampled_BT)], dim=2)
    x_BLC = torch.cat([model.cls_embedding(labels_B)[:, None], pairs.flatten(1, 2)], dim=1)
    nowhere = table[:1].expand(len(labels_B), 1, 1, -1, -1)
    phases = torch.cat([nowhere, phases.repeat_interleave(2, dim=1)], dim=1)
    call = Call(phases=phases, mask=model.sequence_mask().to(device))
    return model.head(model.run(x_BLC, call)[:, 1::2].contiguous()), sampled_BT
