"""The base of decoders in which every image has an order of its own, with static storage.

Letters: B images, R rows (one or two per image), T tokens of an image, n tokens of a block. Ranks
are places in the order of sampling; place 0 is the class, place 1 + c the row-major cell c.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence as Items
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from pcb.published.guidance import Guidance
from pcb.runtime.device import send
from pcb.sample.rows import Rows


class PerImageOrderDecoder(ABC):
    """A decoder (`pcb.sample.decoder`) whose subclass says how a step runs the model."""

    def __init__(
        self,
        sizes: Items[int],
        guidance: Guidance,
        *,
        codes: int,
        classes: int,
        device: torch.device,
    ) -> None:
        """`sizes`: tokens of each block, first to last."""
        self.steps, self.tokens, self.vocabulary = len(sizes), sum(sizes), codes
        self.device, self.guidance = device, guidance
        self._classes = classes
        self.ends = tuple(pairwise(accumulate(sizes, initial=0)))
        """First rank of every block, and the rank after its last."""
        self._scales_T = torch.from_numpy(guidance.scales(sizes)).float().to(device)
        self.rows = Rows(0, guided=False, null_class=classes, device=device)

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch: (B,) classes and for each image its order, rank -> cell."""
        assert orders_BT is not None, "every image has an order of its own"
        if self.rows.images != len(labels_B):
            self.rows = Rows(
                len(labels_B),
                guided=self.guidance.on,
                null_class=self._classes,
                device=self.device,
            )
            self._orders_BT, self._codes_BT = torch.zeros(
                (2, len(labels_B), self.tokens), dtype=torch.int64, device=self.device
            )
            self.places_RL = torch.zeros(
                (self.rows.most, 1 + self.tokens), dtype=torch.int64, device=self.device
            )
            """Of every row the class's place, then those of its cells by rank."""
            self.allocate(self.rows.most)
        self.rows.begin(labels_B)
        self._orders_BT.copy_(send(orders_BT, self.device))
        self.places_RL[:, 1:] = 1 + self._orders_BT[self.rows.image_R]

    def cells(self, step: int) -> Tensor:
        """Return the row-major cells of a block, (B, n)."""
        first, last = self.ends[step]
        return self._orders_BT[:, first:last]

    def logits(self, step: int) -> Tensor:
        """Return the (B, n, V) float32 logits of a block, guidance applied."""
        first, last = self.ends[step]
        return self.rows.guide(self.read(step), self._scales_T[first:last])

    def accept(self, step: int, codes_Bn: Tensor) -> None:
        """Take in the codes that were chosen for a block."""
        first, last = self.ends[step]
        self._codes_BT[:, first:last] = codes_Bn

    def codes(self, step: int, rows: int) -> Tensor:
        """Return the codes that were chosen for a block, (R, n), for the first rows."""
        first, last = self.ends[step]
        return self._codes_BT[self.rows.image_R[:rows], first:last]

    @abstractmethod
    def allocate(self, rows: int) -> None:
        """Make the storage that belongs to the model, for so many rows."""

    @abstractmethod
    def read(self, step: int) -> Tensor:
        """Run the model for a block; return (R, n, V) logits."""
