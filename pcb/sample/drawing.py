"""A batch of images that is being drawn, in storage that serves batch after batch.

Letters: B images, R rows (one or two for an image), T tokens of the sequence, n tokens of a block,
C code dim, V codebook size, h w a scale's grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcb.model.cache import Cache
from pcb.model.layers import Attending
from pcb.runtime.device import send
from pcb.sample.draw import draw_codes
from pcb.sample.guidance import Guidance
from pcb.sample.prepared import Prepared
from pcb.tokenizer.pyramid import upsample_codes

MIN_CPU_ROWS = 16
"""A CPU matrix product of fewer rows than this may take another path, with another order of sums:
it is filled up, so that an image never depends on its batch. (MKL's own limit is four rows.)"""


@dataclass(frozen=True, kw_only=True)
class StepLogits:
    """What an observer of the sampler sees at a step, before codes are picked.

    logits_BnV after guidance; codes_Bn what was drawn from them. Another step may overwrite both.
    """

    step: int
    logits_BnV: Tensor
    codes_Bn: Tensor


class Drawing:
    """Token tensors are in the order of the sequence; every step has the same shapes each time.

    Rows 0..B belong to the images with their classes, rows B..2B, with guidance, to those without.
    On a CPU, tensors have rows beyond for filling up; what these hold is never seen.
    """

    def __init__(
        self, prepared: Prepared, guidance: Guidance, temperature: float, batch: int
    ) -> None:
        """`batch`: the most images that it can take in."""
        self.prepared, self.guidance, self.temperature = prepared, guidance, temperature
        self.images = batch
        model, sequence = prepared.model, prepared.sequence
        self.device = model.codebook_VC.device
        self._least_rows = MIN_CPU_ROWS if self.device.type == "cpu" else 1
        # The norms' own products have a row an image, whatever the tokens of a step.
        small = prepared.speed.small_batches and prepared.speed.modulation
        self.batch = batch if small else max(batch, self._least_rows)
        guided = guidance.needed(len(sequence.steps))
        self._slots = max(self.batch, self._least_rows)
        self._rows = self.batch + self._slots if guided else self._slots
        tokens, settings = model.tokens, model.settings
        self._codes_BT = torch.zeros(self._slots, tokens, dtype=torch.int64, device=self.device)
        self._uniforms_BT = torch.zeros(self.batch, tokens, device=self.device)
        # The first scale's source stays zero.
        code_dim = model.codebook_VC.shape[1]
        self._source_BTC = torch.zeros(self._slots, tokens, code_dim, device=self.device)
        self._labels_R = torch.full((self._rows,), model.num_classes, device=self.device)
        self._conditions = prepared.conditions(self._labels_R)
        self._cache = Cache.allocate(
            layers=settings.layers,
            batch=self._rows,
            heads=settings.heads,
            length=tokens + 1,
            head_dim=settings.width // settings.heads,
            dtype=prepared.dtype,
            device=self.device,
        )
        self._first_guided = next(
            (step for step in range(len(sequence.steps)) if guidance.active(step)), None
        )

    def begin(self, labels_B: Tensor, uniforms_BT: Tensor) -> None:
        """Take in images: (B,) classes, and (B, T) numbers, row-major in a scale."""
        images = len(labels_B)
        self._labels_R[:images] = send(labels_B, self.device)
        self._labels_R[images : self.batch] = self._labels_R[0]
        self._conditions.copy_(self.prepared.conditions(self._labels_R))
        numbers = send(uniforms_BT, self.device)[:, self.prepared.sequence.rows_L[1:]]
        self._uniforms_BT[:images] = numbers
        self._uniforms_BT[images:] = numbers[:1]

    def step(self, step: int) -> StepLogits:
        """Draw the codes of one block; after a scale's last block, prepare the next scale."""
        first, last = (position - 1 for position in self.prepared.sequence.steps[step])
        logits_BnV = self._logits(step, first, last)
        codes_Bn = draw_codes(logits_BnV, self._uniforms_BT[:, first:last], self.temperature)
        self._codes_BT[: self.batch, first:last] = codes_Bn
        for scale, (_, stop) in enumerate(self.prepared.sequence.tokens_of_scales[:-1]):
            if stop == last:
                self._upsample(scale)
        return StepLogits(step=step, logits_BnV=logits_BnV, codes_Bn=codes_Bn)

    def row_major(self) -> Tensor:
        """Return the codes drawn so far, scale by scale and row-major."""
        codes = torch.empty_like(self._codes_BT[: self.batch])
        codes[:, self.prepared.sequence.rows_L[1:]] = self._codes_BT[: self.batch]
        return codes

    def _logits(self, step: int, first: int, last: int) -> Tensor:
        """Logits of tokens first..last, guided if this step is."""
        batch = self.batch
        if self._first_guided is None or step < self._first_guided:
            return self.prepared.logits(self._hidden(0, batch, first, last))[:batch]
        if step == self._first_guided and first > 0:
            # One pass over everything drawn so far, so that unguided steps cost nothing twice.
            self._hidden(batch, 2 * batch, 0, first)
        both = self.prepared.logits(self._hidden(0, 2 * batch, first, last)).float()
        return self.guidance.mix(both[:batch], both[batch : 2 * batch])

    def _hidden(self, start: int, stop: int, first: int, last: int) -> Tensor:
        """Run the model on tokens first..last for the rows start..stop, and those that fill up."""
        prepared, model, batch = self.prepared, self.prepared.model, self.batch
        least = -(-self._least_rows // (last - first))
        images, rows = max(batch, least), max(stop - start, least)
        x_RnD = prepared.embed(first, last, self._source_BTC[:images], self._codes_BT[:images])
        if stop - start > batch:
            x_RnD = torch.cat([x_RnD[:batch], x_RnD[:batch], x_RnD[: rows - 2 * batch]])
        # A call that begins with the class token spans several blocks; any other is one block,
        # which sees all that is cached.
        with_class = first == 0
        if with_class:
            class_RD = model.class_embedding(self._labels_R[start : start + rows])
            x_RnD = torch.cat([class_RD[:, None].to(x_RnD.dtype), x_RnD], dim=1)
        position = 0 if with_class else first + 1
        x_RnD = model.run_layers(
            x_RnD,
            prepared.of_rows(self._conditions, start, start + rows),
            prepared.phases(position, last + 1),
            Attending(
                mask=prepared.mask_LL[: last + 1, : last + 1] if with_class else None,
                cache=self._cache.rows(start, start + rows),
                start=position,
            ),
        )
        return model.norm(x_RnD[:, 1:] if with_class else x_RnD)

    def _upsample(self, scale: int) -> None:
        """Fill in the source of the scale after this one from the codes just completed."""
        sequence, model = self.prepared.sequence, self.prepared.model
        size, finer = sequence.schedule.sizes[scale : scale + 2]
        start, stop = sequence.tokens_of_scales[scale]
        cells = sequence.rows_L[start + 1 : stop + 1] - start
        codes_BT = self._codes_BT[: self.batch, start:stop]
        grid_Bhw = torch.empty_like(codes_BT)
        grid_Bhw[:, cells] = codes_BT
        vectors_BChw = model.codebook_VC[grid_Bhw].view(-1, size, size, model.codebook_VC.shape[1])
        source = upsample_codes(vectors_BChw.permute(0, 3, 1, 2), finer)
        start, stop = sequence.tokens_of_scales[scale + 1]
        order = sequence.rows_L[start + 1 : stop + 1] - start
        self._source_BTC[: self.batch, start:stop] = source.flatten(2).transpose(1, 2)[:, order]
