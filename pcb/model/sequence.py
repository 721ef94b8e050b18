"""The order of tokens as index tensors: what a schedule means to a transformer.

The sequence is a class token, then the scales coarse to fine, each in checkerboard order, or in the
one that the model's settings name. Every (scale, cell) owns a *row* of the position tables,
numbered scale by scale and row-major inside a scale; two rows more stand for the class token and
for the null position, that of a token which is not there.

The *previous-block token* of a token is the one with the same place in the block before, within the
scale; the first block of a scale has none.

Letters: L positions of the sequence, T tokens (L without the class token).
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.order.names import CHECKERBOARD
from pcb.order.orders import order_of
from pcb.order.schedule import Schedule, block_starts
from pcb.runtime.device import send

NO_PREVIOUS = -1


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Index tensors of one schedule, each int64 over the L = T + 1 positions.

    rows_L: row of the position tables. previous_L: position of the previous-block token, or
    NO_PREVIOUS. blocks_L: 0 for the class token, then 1 + step. previous_rows_L: row of the
    previous-block token; the null position's where there is none, and the class token's own, which
    stands in no scale. previous_cells_T: index of the previous-block token among row-major codes;
    any where there is none.
    """

    schedule: Schedule
    rows_L: Tensor
    previous_L: Tensor
    blocks_L: Tensor
    previous_rows_L: Tensor = field(init=False)
    previous_cells_T: Tensor = field(init=False)

    def __post_init__(self) -> None:
        # Not when they are first asked for: that may be inside of a step that becomes a CUDA graph.
        rows_L = self.rows_L[self.previous_L.clamp(min=0)]
        rows_L = torch.where(self.previous_L == NO_PREVIOUS, self.null_row, rows_L)
        rows_L = torch.cat([self.rows_L[:1], rows_L[1:]])
        object.__setattr__(self, "previous_rows_L", rows_L)
        object.__setattr__(self, "previous_cells_T", rows_L[1:].clamp(max=self.schedule.tokens - 1))

    @property
    def class_row(self) -> int:
        """Row of the class token."""
        return self.schedule.tokens

    @property
    def null_row(self) -> int:
        """Row of the null position."""
        return self.schedule.tokens + 1

    @cached_property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """(first, past-the-last) position of every step's block."""
        bounds = np.cumsum([1, *(size for blocks in self.schedule.blocks for size in blocks)])
        return tuple(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))

    @cached_property
    def tokens_of_scales(self) -> tuple[tuple[int, int], ...]:
        """(first, past-the-last) token of every scale; add 1 for positions."""
        bounds = np.cumsum([0, *(size * size for size in self.schedule.sizes)])
        return tuple(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))

    def mask_LL(self) -> Tensor:
        """Block-causal mask: True where the row's token sees the column's token."""
        return self.blocks_L[:, None] >= self.blocks_L[None, :]

    def to(self, device: torch.device) -> "Sequence":
        """Return the same sequence with its tensors on a device."""
        indices = (self.rows_L, self.previous_L, self.blocks_L)
        rows, previous, blocks = (send(index, device) for index in indices)
        return Sequence(schedule=self.schedule, rows_L=rows, previous_L=previous, blocks_L=blocks)


def sequence_of(schedule: Schedule, order: str = CHECKERBOARD) -> Sequence:
    """Lay out a schedule's tokens, those of each scale in the order of this name (`ORDERS`).

    Blocks are runs of the order, whatever it is: schedules of two orders differ in nothing else.
    The previous-block token of the j-th of a block is the j-th of the block before; a block larger
    than the one before leaves its last tokens without one, as when a remainder joins its neighbor
    in training.
    """
    rows = [rows_in_order(schedule.sizes, order), np.array([schedule.tokens])]
    previous, blocks = [np.array([NO_PREVIOUS])], [np.array([0])]
    position, step = 1, 1
    for sizes in schedule.blocks:
        previous.append(_previous(sizes, position))
        blocks.append(np.repeat(np.arange(step, step + len(sizes)), sizes))
        position += sum(sizes)
        step += len(sizes)
    return Sequence(
        schedule=schedule,
        rows_L=torch.from_numpy(np.concatenate(rows[::-1])),
        previous_L=torch.from_numpy(np.concatenate(previous)),
        blocks_L=torch.from_numpy(np.concatenate(blocks)),
    )


@lru_cache(maxsize=64)
def rows_in_order(sizes: tuple[int, ...], order: str = CHECKERBOARD) -> NDArray[np.int64]:
    """Return the rows of all T tokens, scale by scale, in sampling order.

    Read backwards, it takes row-major codes to the order of the sequence: codes[rows_in_order].
    """
    starts = np.cumsum([0, *(size * size for size in sizes)])
    return np.concatenate(
        [start + order_of(order, size) for start, size in zip(starts, sizes, strict=False)]
    )


def _previous(blocks: tuple[int, ...], position: int) -> NDArray[np.int64]:
    """Positions of the previous-block tokens of a scale whose first token stands at `position`."""
    starts = np.array(block_starts(blocks))
    sizes = np.array(blocks)
    offset = np.arange(sizes.sum()) - np.repeat(starts, sizes)
    start_before = np.repeat(np.concatenate([[0], starts[:-1]]), sizes)
    size_before = np.repeat(np.concatenate([[0], sizes[:-1]]), sizes)
    return np.where(offset < size_before, position + start_before + offset, NO_PREVIOUS)
