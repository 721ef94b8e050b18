"""Block-by-block decoding with a model of LlamaGen's family, in static storage.

What a system feeds in a step, and at which positions, is in its own file; all else is here.

Letters: B images, R rows, T tokens, L positions of a call, n tokens of a block, C width, V codes,
H head dim.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from pcb.model.cache import Cache
from pcb.published.guidance import Guidance
from pcb.runtime.device import send
from pcb.sample.rows import Rows
from pcb.systems.backbone import Backbone, Call, rotary_table


@dataclass(frozen=True, kw_only=True)
class Span:
    """A block's tokens in sampling order: first <= rank < last."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


class FamilyDecoder(ABC):
    """A decoder (`pcb.sample.decoder`) whose subclass says what a step feeds to the model."""

    def __init__(
        self, model: Backbone, guidance: Guidance, sizes: Items[int], *, positions: int
    ) -> None:
        """`sizes`: tokens of every block. `positions`: those of the longest sequence."""
        self.model = model
        self.spans = tuple(
            Span(first=last - size, last=last)
            for size, last in zip(sizes, accumulate(sizes), strict=True)
        )
        self.steps, self.tokens, self.vocabulary = len(sizes), sum(sizes), model.size.codes
        assert self.tokens == model.size.tokens, f"{sizes} for {model.size.tokens} tokens"
        self.device, self.dtype = model.output.weight.device, model.output.weight.dtype
        self._guided, self._positions = guidance.on, positions
        scales = torch.from_numpy(guidance.scales(sizes))
        self._scales_T = scales.to(self.device, torch.float32)
        # Row 1 + c for cell c, row 0 for tokens without one.
        self.phases = rotary_table(model.size).to(self.device)
        self.rows = Rows(0, guided=False, null_class=0, device=self.device)

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch of as many images as the last one, or make storage for it."""
        if self.rows.images != len(labels_B):
            self._allocate(len(labels_B))
        self.rows.begin(labels_B)

    @abstractmethod
    def cells(self, step: int) -> Tensor:
        """Return the cells of a block's tokens."""

    @abstractmethod
    def read(self, step: int) -> Tensor:
        """Run the model for a block; return (R, n, V) logits in float32."""

    def logits(self, step: int) -> Tensor:
        """Return the (B, n, V) float32 logits of a block, guidance applied."""
        span = self.spans[step]
        return self.rows.guide(self.read(step), self._scales_T[span.first : span.last])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The tokens of every block."""
        return tuple(map(len, self.spans))

    def accept(self, step: int, codes_Bn: Tensor) -> None:
        """Take in the codes that were chosen for a block."""
        span = self.spans[step]
        self._codes_BT[:, span.first : span.last] = codes_Bn

    def class_tokens(self, rows: int) -> Tensor:
        """Return the (R, 1, C) class tokens of the first rows."""
        return self.model.cls_embedding(self.rows.labels_R[:rows])[:, None]

    def code_tokens(self, span: Span, rows: int) -> Tensor:
        """Return the (R, n, C) embedded codes of a sampled block, for the first rows."""
        codes_Bn = self._codes_BT[:, span.first : span.last]
        return self.model.tok_embeddings(codes_Bn[self.rows.image_R[:rows]])

    def run(
        self, x_RLC: Tensor, phases: Tensor, start: int, mask_LM: Tensor | None = None
    ) -> tuple[Tensor, Call]:
        """Run the model's blocks on tokens at positions from `start` on."""
        cache = self._cache.rows(0, len(x_RLC))
        call = Call(phases=phases, mask=mask_LM, cache=cache, start=start)
        return self.model.run(x_RLC, call), call

    def _allocate(self, images: int) -> None:
        """Make storage for batches of so many images."""
        size = self.model.size
        self.rows = Rows(images, guided=self._guided, null_class=size.classes, device=self.device)
        self._codes_BT = torch.zeros(images, self.tokens, dtype=torch.int64, device=self.device)
        self._cache = Cache.allocate(
            layers=len(self.model.layers),
            batch=self.rows.most,
            heads=size.heads,
            length=self._positions,
            head_dim=size.head_dim,
            dtype=self.dtype,
            device=self.device,
        )


class FixedOrderDecoder(FamilyDecoder):
    """A decoder of which every image has the same order."""

    def __init__(
        self,
        model: Backbone,
        guidance: Guidance,
        sizes: Items[int],
        *,
        order: Tensor,
        positions: int,
    ) -> None:
        """`order`: the T row-major cells in sampling order."""
        super().__init__(model, guidance, sizes, positions=positions)
        self._order_T = send(order, self.device)

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch."""
        assert orders_BT is None, "the order of this system is fixed"
        super().begin(labels_B)

    def cells(self, step: int) -> Tensor:
        """Return the (n,) cells of a block's tokens."""
        span = self.spans[step]
        return self._order_T[span.first : span.last]

    def code_phases(self, span: Span) -> Tensor:
        """Return the (n, 1, H/2, 2) phases of a block's tokens, each of its own cell."""
        return self.phases[self._order_T[span.first : span.last] + 1][:, None]
