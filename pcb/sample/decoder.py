"""The interface that every model of the table offers to the sampler: decoding block by block.

What a decoder makes of image i depends on the model, the settings and i alone: on the image's
class, on one uniform number per token, and on its order where orders are random.

Letters: B images, T tokens of an image, n tokens of a block, V codes.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """Decodes batches of one model under one schedule and guidance, block by block.

    Storage is static: it is kept for the next batch of as many images, and a step has the same
    shapes for each of them. A step taken twice gives the same, so that it can be recorded and
    replayed. No step waits for the device.
    """

    steps: int
    """Model calls of an image one after another: its blocks."""
    tokens: int
    """T, the tokens of an image."""
    vocabulary: int
    """V, the codes that a token can have."""
    device: torch.device
    """Where the model is."""

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None) -> None:
        """Take in a batch: classes, and where orders are random one order per image.

        An order holds the indices of the image's T tokens, in the order of sampling.
        """
        ...

    def cells(self, step: int) -> Tensor:
        """Return the indices of a block's tokens in the image's T tokens: (n,), or (B, n).

        Tokens are numbered row-major, and scale by scale where there are several.
        """
        ...

    def logits(self, step: int) -> Tensor:
        """Return the (B, n, V) float32 logits of a block, guidance applied.

        Steps come in turn, and the codes of all blocks before were accepted.
        """
        ...

    def accept(self, step: int, codes_Bn: Tensor) -> None:
        """Take in the codes that were chosen for a block."""
        ...


@dataclass(frozen=True, kw_only=True)
class Block:
    """One sampled block of a batch.

    logits_BnV: after guidance, before the filter. probabilities_BnV: after it
    (`pcb.sample.filter.sample_codes`).
    """

    logits_BnV: Tensor
    probabilities_BnV: Tensor
    codes_Bn: Tensor


@torch.inference_mode()
def forced_logits(
    decoder: Decoder, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor | None = None
) -> Tensor:
    """Return the (B, T, V) logits, in the order of sampling, from which given codes would come.

    `codes_BT` are row-major (scale by scale), on the decoder's device.
    """
    decoder.begin(labels_B, orders_BT)
    logits = []
    for step in range(decoder.steps):
        logits.append(decoder.logits(step).clone())
        decoder.accept(step, codes_BT.gather(1, decoder.cells(step).expand(len(codes_BT), -1)))
    return torch.cat(logits, dim=1)
