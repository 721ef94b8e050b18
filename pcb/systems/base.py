"""One protocol for every system of the table, and the one loop that draws images with it.

A system is a transformer, an order and blocks: how many tokens of the order it draws at once. What
it draws of image i depends on the model, the settings and i alone: on the image's class, on one
uniform number per token, and on its order where orders are random.

Letters: B images, T tokens of an image, n tokens of a block, V codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pcb.systems.filter import EVERYTHING, Filter, draw


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

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None) -> None:
        """Take in a batch: classes, and where orders are random one order per image.

        An order holds the indices of the image's T tokens, in drawing order.
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
    """What an observer sees of a step. The next step may overwrite all of it.

    cells: (n,) or (B, n). logits_BnV after guidance, before temperature and filter.
    """

    step: int
    cells: Tensor
    logits_BnV: Tensor
    codes_Bn: Tensor


@torch.inference_mode()
def decode(
    decoder: Decoder,
    labels_B: Tensor,
    uniforms_BT: Tensor,
    orders_BT: Tensor | None = None,
    filter: Filter = EVERYTHING,
    observe: Callable[[Block], None] | None = None,
) -> Tensor:
    """Return the (B, T) int64 codes of images of these classes, row-major (scale by scale).

    `uniforms_BT` holds one number in [0, 1) per token, in the same order as the codes; it lies on
    the decoder's device, and so do the codes. `observe` is called after every step.
    """
    decoder.begin(labels_B, orders_BT)
    codes_BT = torch.zeros_like(uniforms_BT, dtype=torch.int64)
    for step in range(decoder.steps):
        block = draw_block(decoder, step, uniforms_BT, codes_BT, filter)
        if observe is not None:
            observe(block)
    return codes_BT


def draw_block(
    decoder: Decoder, step: int, uniforms_BT: Tensor, codes_BT: Tensor, filter: Filter
) -> Block:
    """Draw the codes of one block into `codes_BT`."""
    cells = decoder.cells(step)
    cells_Bn = cells.expand(len(codes_BT), -1)
    logits_BnV = decoder.logits(step)
    codes_Bn = draw(logits_BnV, uniforms_BT.gather(1, cells_Bn), filter)
    codes_BT.scatter_(1, cells_Bn, codes_Bn)
    decoder.accept(step, codes_Bn)
    return Block(step=step, cells=cells, logits_BnV=logits_BnV, codes_Bn=codes_Bn)


@torch.inference_mode()
def forced_logits(
    decoder: Decoder, labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor | None = None
) -> Tensor:
    """Return the (B, T, V) logits, in drawing order, from which given codes would be drawn.

    `codes_BT` are row-major (scale by scale), on the decoder's device.
    """
    decoder.begin(labels_B, orders_BT)
    logits = []
    for step in range(decoder.steps):
        logits.append(decoder.logits(step).clone())
        decoder.accept(step, codes_BT.gather(1, decoder.cells(step).expand(len(codes_BT), -1)))
    return torch.cat(logits, dim=1)
