"""Decoding with VAR, scale by scale, in static storage.

Letters: B images, R rows (one or two per image), T tokens of all scales, n tokens of a scale,
C width, V codes, D code width, h w the finest grid.
"""

from collections.abc import Sequence as Items
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from pcb.model.cache import Cache
from pcb.published.guidance import Guidance
from pcb.sample.rows import Rows
from pcb.systems.attention import Context
from pcb.systems.var import VAR
from pcb.systems.var_quantizer import Quantizer


class VARDecoder:
    """A call per scale; the sum of the scales so far, in float32, is all that the next one gets.

    Weights may be of 16 bits; the quantizer's must be float32.
    """

    def __init__(self, model: VAR, guidance: Guidance, quantizer: Quantizer) -> None:
        """`quantizer`: that of the model's tokenizer."""
        config = model.config
        assert quantizer.scales == config.scales, f"{quantizer.scales} for {config.scales}"
        self.model, self.guidance, self.quantizer = model, guidance, quantizer
        self.steps, self.tokens, self.vocabulary = len(config.scales), config.tokens, config.codes
        self.ends = tuple(pairwise(accumulate(config.sizes, initial=0)))
        """First token of every scale, and the one after its last."""
        self.device = model.head.weight.device
        scales = torch.from_numpy(guidance.scales(config.sizes))
        self._scales_T = scales.to(self.device, torch.float32)
        self._cells_T = torch.arange(self.tokens, device=self.device)
        self._places_TC = model.places()
        self.rows = Rows(0, guided=False, null_class=config.classes, device=self.device)

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch of classes."""
        assert orders_BT is None, "the order of this system is fixed"
        if self.rows.images != len(labels_B):
            self._allocate(len(labels_B))
        self.rows.begin(labels_B)
        class_RC = self.model.class_emb(self.rows.labels_R)
        self._start_RC.copy_(class_RC + self.model.pos_start[0])
        of_blocks, of_head = self.model.modulations(class_RC)
        self._of_blocks.copy_(of_blocks)
        self._of_head.copy_(of_head)

    def cells(self, step: int) -> Tensor:
        """Return the indices of a scale's tokens, (n,)."""
        first, last = self.ends[step]
        return self._cells_T[first:last]

    def logits(self, step: int) -> Tensor:
        """Return the (B, n, V) float32 logits of a scale, guidance applied."""
        first, last = self.ends[step]
        rows = self.rows.count(last - first)
        logits_RnV = self.model(
            self._inputs(step, rows) + self._places_TC[first:last],
            self._of_blocks[:, :rows],
            self._of_head[:rows],
            Context(cache=self._cache.rows(0, rows), start=first),
        )
        return self.rows.guide(logits_RnV, self._scales_T[first:last])

    def accept(self, step: int, codes_Bn: Tensor) -> None:
        """Take in the codes that were chosen for a scale."""
        before = self._sums[step]
        self._sums[step + 1].copy_(before + self.quantizer.vectors(codes_Bn, step))

    @property
    def sum_BDhw(self) -> Tensor:
        """The sum over all scales, what the tokenizer decodes to an image."""
        return self._sums[-1]

    def _inputs(self, step: int, rows: int) -> Tensor:
        """Return what a scale's tokens read, (R, n, C), before place and scale are added."""
        if step == 0:
            return self._start_RC[:rows, None]
        x_BnD = self.quantizer.resized(self._sums[step], step).flatten(2).transpose(1, 2)
        x_RnD = x_BnD[self.rows.image_R[:rows]]
        return self.model.word_embed(x_RnD.to(self._start_RC.dtype))

    def _allocate(self, images: int) -> None:
        """Make storage for batches of so many images."""
        config, weight = self.model.config, self.model.head.weight
        self.rows = Rows(
            images, guided=self.guidance.on, null_class=config.classes, device=self.device
        )
        rows = self.rows.most

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=weight.dtype, device=self.device)

        self._start_RC = zeros(rows, config.width)
        self._of_blocks = zeros(config.blocks, rows, 6, config.width)
        self._of_head = zeros(rows, 2, config.width)
        # One sum per scale and not one for all, so that a step can be taken twice.
        finest = config.scales[-1]
        shape = (self.steps + 1, images, config.code_width, finest, finest)
        self._sums = torch.zeros(shape, device=self.device)
        self._cache = Cache.allocate(
            layers=config.blocks,
            batch=rows,
            heads=config.heads,
            length=self.tokens,
            head_dim=config.width // config.heads,
            dtype=weight.dtype,
            device=self.device,
        )


def by_scale(codes_BT: Tensor, scales: Items[int]) -> list[Tensor]:
    """Return the (B, s_k^2) codes of every scale."""
    return list(codes_BT.split([side * side for side in scales], dim=1))
