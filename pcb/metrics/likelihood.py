"""Likelihood of given codes under a schedule, in teacher-forced passes of the transformer.

A model samples the tokens of a block as if they were independent, given the class and all blocks
before. The likelihood of an image is therefore a product over blocks, which one pass over the whole
sequence gives for any schedule:

    NLL(schedule) = - sum log p(code | class, all tokens of earlier blocks)

What sampling in parallel costs is its difference to the schedule of one token per block.

Letters: B images, T tokens in the order of the sequence, S scales, N tokens of all images, D width,
V codebook size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from pcb.model.exact import MIN_CPU_ROWS, filled_up, min_rows
from pcb.model.inputs import teacher_forced
from pcb.model.layers import AttentionContext
from pcb.model.sequence import Sequence
from pcb.model.transformer import Transformer

PART_LOGITS = 2**24
"""Most logits at a time: 128 MiB in float64."""


@torch.inference_mode()
def negative_log_likelihood(
    model: Transformer, sequence: Sequence, labels_B: Tensor, codes: Mapping[int, Tensor]
) -> Tensor:
    """Return the NLL of every scale of each image in nats, float64 (B, S).

    `codes` maps each side to int64 (B, size, size). No label is dropped, no code replaced, and the
    temperature is 1: what a sampler draws from by default. Everything is on the model's device.
    """
    images, least = len(labels_B), min_rows(labels_B.device)
    labels_B = filled_up(labels_B, least)
    codes = {size: filled_up(grid_Bhw, least) for size, grid_Bhw in codes.items()}
    inputs, codes_BT = teacher_forced(sequence, labels_B, codes, model.codebook_VC)
    hidden_BTD = model(inputs, AttentionContext(mask=sequence.mask_LL()))
    losses_BT = _token_losses(model, hidden_BTD.flatten(0, 1), codes_BT.flatten())
    losses_BT = losses_BT.view(codes_BT.shape)[:images]
    scales = [losses_BT[:, first:last].sum(1) for first, last in sequence.tokens_of_scales]
    return torch.stack(scales, dim=1)


def _token_losses(model: Transformer, hidden_ND: Tensor, codes_N: Tensor) -> Tensor:
    """Return -log p of every token's code in nats, float64 (N,), some tokens at a time."""
    head_VD = model.head_weight()
    most = max(MIN_CPU_ROWS, PART_LOGITS // len(head_VD))
    losses = []
    # Parts of nearly equal length: none is so short that its products take another path.
    parts = max(1, -(-len(codes_N) // most))
    for hidden, codes in zip(
        hidden_ND.tensor_split(parts), codes_N.tensor_split(parts), strict=True
    ):
        log_probabilities_nV = model.logits(hidden, head_VD).double().log_softmax(-1)
        losses.append(-log_probabilities_nV.gather(-1, codes[:, None]).squeeze(-1))
    return torch.cat(losses)
