"""Block-parallel decoding with the paper's transformer, scale by scale (paper, section 3).

Letters: B images, R rows (one or two per image, and filler), T tokens, n tokens of a block, C code
dim, V codebook size, h w a scale's grid.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pcb.config import Speed
from pcb.model.cache import Cache
from pcb.model.exact import min_rows
from pcb.model.inputs import Inputs, inputs_of
from pcb.model.layers import AttentionContext, Modulations
from pcb.model.precomputed import EmbeddingTables, Precomputed, phases_of
from pcb.model.sequence import sequence_of
from pcb.model.transformer import Transformer
from pcb.order.schedule import Schedule
from pcb.sample.decoder import Block
from pcb.sample.filter import EVERYTHING, Filter
from pcb.sample.guidance import OFF, Guidance
from pcb.sample.rows import Rows
from pcb.sample.sampler import Measured, Sampler
from pcb.tokenizer.pyramid import upsample_codes

ALL_ON = Speed()


class DecodingState:
    """Storage of one batch; tokens are numbered row-major, scale by scale.

    codes_BT: those accepted so far. conditioning_BTC: conditioning latents of all scales that have
    begun, zeros in the first. modulations: shift and scale of every layer's two norms for the rows'
    classes: (layers, 4, R, 1, D).
    """

    def __init__(self, model: Transformer, images: int, *, guided: bool) -> None:
        settings, device, dtype = model.settings, model.codebook_VC.device, model.head.weight.dtype
        self.rows = Rows(
            images,
            guided=guided,
            null_class=model.num_classes,
            device=device,
            halves=True,
            pack=1,
        )
        self.codes_BT = torch.zeros(images, model.tokens, dtype=torch.int64, device=device)
        code_dim = model.codebook_VC.shape[1]
        self.conditioning_BTC = torch.zeros(images, model.tokens, code_dim, device=device)
        shape = (settings.layers, 4, self.rows.most, 1, settings.width)
        self.modulations = torch.zeros(shape, dtype=dtype, device=device)
        self.cache = Cache.allocate(
            layers=settings.layers,
            batch=self.rows.most,
            heads=settings.heads,
            length=model.tokens + 1,
            head_dim=settings.width // settings.heads,
            dtype=dtype,
            device=device,
        )

    def modulations_of(self, rows: slice) -> list[Modulations]:
        """Return every layer's modulations for some of the rows."""
        layers = (layer.unbind() for layer in self.modulations[:, :, rows].unbind())
        return [((shift, scale), (shift2, scale2)) for shift, scale, shift2, scale2 in layers]


class PyramidDecoder:
    """The paper's transformer under one schedule and guidance, as a `pcb.sample.decoder.Decoder`.

    What depends on the model and the schedule alone is computed when the decoder is made: later
    changes of the weights are not seen.
    """

    @torch.inference_mode()
    def __init__(
        self, model: Transformer, schedule: Schedule, guidance: Guidance, speed: Speed
    ) -> None:
        """`schedule` must have the model's scales."""
        assert schedule.sizes == model.sizes, f"{schedule.sizes} for a model of {model.sizes}"
        self.model, self.guidance = model, guidance
        self.device = model.codebook_VC.device
        self.steps, self.tokens = schedule.steps, model.tokens
        self.vocabulary = len(model.codebook_VC)
        sequence = sequence_of(schedule, model.settings.order).to(self.device)
        self._sequence = sequence
        self._mask_LL = sequence.mask_LL()
        self._precomputed = Precomputed(
            tables=EmbeddingTables(model, sequence) if speed.tables else None,
            phases=phases_of(model, sequence) if speed.phases else None,
        )
        self._head_VD = model.head_weight() if speed.tables else None
        self._with_modulations = speed.modulation
        guided = (step for step in range(self.steps) if guidance.active(step))
        self._guided_from = next(guided, self.steps)
        self._state: DecodingState | None = None

    @property
    def state(self) -> DecodingState:
        """Storage of the batch that was begun last."""
        assert self._state is not None, "no batch was begun"
        return self._state

    def begin(self, labels_B: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch of as many images as the last one, or make storage for it."""
        assert orders_BT is None, "the order of the paper's transformer is its schedule's"
        images = len(labels_B)
        if self._state is None or self._state.rows.images != images:
            self._state = None  # Its memory is free before the next one's is taken.
            guided = self._guided_from < self.steps
            self._state = DecodingState(self.model, images, guided=guided)
        self._state.rows.begin(labels_B)
        if self._with_modulations:
            class_RD = self.model.class_embedding(self._state.rows.labels_R)
            layers = self.model.modulations(class_RD)
            for storage, (first, second) in zip(self._state.modulations, layers, strict=True):
                torch.stack([*first, *second], out=storage)

    def cells(self, step: int) -> Tensor:
        """Return the (n,) indices of a block's tokens."""
        first, last = self._sequence.steps[step]
        return self._sequence.rows_L[first:last]

    def logits(self, step: int) -> Tensor:
        """Return the (B, n, V) float32 logits of a block, guided if this step is."""
        first, last = (position - 1 for position in self._sequence.steps[step])
        rows = self.state.rows
        if step < self._guided_from:
            return self._logits(rows.with_class, first, last)[rows.with_class]
        if step == self._guided_from and first > 0:
            # One pass over everything sampled so far, so that unguided steps cost nothing twice.
            self.model(*self._call(rows.without, 0, first))
        logits_RnV = self._logits(rows.all, first, last)
        return self.guidance.mix(logits_RnV[rows.with_class], logits_RnV[rows.without])

    def accept(self, step: int, codes_Bn: Tensor) -> None:
        """Take in a block's codes; after a scale's last block, condition the next scale on it."""
        state, sequence = self.state, self._sequence
        state.codes_BT[:, self.cells(step)] = codes_Bn
        last = sequence.steps[step][1] - 1
        for scale, (first, stop) in enumerate(sequence.tokens_of_scales[:-1]):
            if stop == last:
                size, finer = sequence.schedule.sizes[scale : scale + 2]
                grid_Bhw = state.codes_BT[:, first:stop].view(-1, size, size)
                vectors_BChw = self.model.codebook_VC[grid_Bhw].permute(0, 3, 1, 2)
                latents_BChw = upsample_codes(vectors_BChw, finer)
                next_scale = slice(*sequence.tokens_of_scales[scale + 1])
                state.conditioning_BTC[:, next_scale] = latents_BChw.flatten(2).transpose(1, 2)

    def _logits(self, rows: slice, first: int, last: int) -> Tensor:
        """Return logits of tokens first..last, of some rows and those that fill up."""
        return self.model.logits(self.model(*self._call(rows, first, last)), self._head_VD)

    def _call(
        self, rows: slice, first: int, last: int
    ) -> tuple[Inputs, AttentionContext, Precomputed]:
        """Return what the model reads for tokens first..last, of some rows and those that fill up.

        A call that begins with the class token spans several blocks; any other is one block, which
        sees all that is cached.
        """
        state, sequence = self.state, self._sequence
        rows = state.rows.padded(rows, last - first)
        inputs = inputs_of(
            sequence,
            state.rows.labels_R[rows],
            state.conditioning_BTC,
            state.codes_BT,
            tokens=slice(first, last),
            images=state.rows.image_R[rows, None],
        )
        context = AttentionContext(
            mask=self._mask_LL[: last + 1, : last + 1] if inputs.with_class else None,
            cache=state.cache.rows(rows.start, rows.stop),
            start=0 if inputs.with_class else first + 1,
        )
        if not self._with_modulations:
            return inputs, context, self._precomputed
        return inputs, context, replace(self._precomputed, modulations=state.modulations_of(rows))


def sampler_for(
    model: Transformer,
    schedule: Schedule,
    *,
    guidance: Guidance = OFF,
    filter: Filter = EVERYTHING,
    speed: Speed = ALL_ON,
    measure: Callable[[Block], Measured] | None = None,
) -> Sampler:
    """Return a sampler of the paper's transformer."""
    decoder = PyramidDecoder(model, schedule, guidance, speed)
    # The norms' own products have one row per image, whatever the tokens of a step: made at every
    # step, they too need enough rows.
    small_batches = speed.small_batches and speed.modulation
    return Sampler(
        decoder,
        filter=filter,
        graphs=speed.graphs,
        measure=measure,
        least_images=1 if small_batches else min_rows(decoder.device),
    )
