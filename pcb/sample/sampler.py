"""Drawing a batch of images block by block (paper, section 3 and METHOD section 6).

Letters: B images, T tokens of the whole sequence, n tokens of a block, C code dim, V codebook
size, h w a scale's grid.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pcb.model.cache import Cache
from pcb.model.layers import Attending
from pcb.model.sequence import Sequence, sequence_of
from pcb.model.transformer import Inputs, Transformer
from pcb.sample.draw import draw_codes
from pcb.sample.guidance import Guidance
from pcb.schedule import Schedule
from pcb.tokenizer.pyramid import upsample_codes

# A CPU matrix product of fewer rows than this takes another path, with another order of sums:
# smaller batches are filled up, so that an image never depends on its batch.
MIN_CPU_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class StepLogits:
    """What an observer of the sampler sees at a step, before codes are picked.

    logits_BnV after guidance; codes_Bn what was drawn from them.
    """

    step: int
    logits_BnV: Tensor
    codes_Bn: Tensor


class Sampler:
    """Draws codes of images with one model under one schedule and guidance."""

    def __init__(
        self,
        model: Transformer,
        schedule: Schedule,
        *,
        guidance: Guidance | None = None,
        temperature: float = 1.0,
    ) -> None:
        """`schedule` must have the model's scales."""
        assert schedule.sizes == model.sizes, f"{schedule.sizes} for a model of {model.sizes}"
        self.model = model
        self.guidance = guidance or Guidance()
        self.temperature = temperature
        self.device = model.codebook_VC.device
        self.sequence: Sequence = sequence_of(schedule).to(self.device)
        self.mask_LL = self.sequence.mask_LL()

    @torch.inference_mode()
    def draw(
        self,
        labels_B: Tensor,
        uniforms_BT: Tensor,
        observe: Callable[[StepLogits], None] | None = None,
    ) -> Tensor:
        """Return (B, T) int64 codes, scale by scale and row-major, of images of these classes.

        `uniforms_BT` holds one number in [0, 1) a token, in the same order as the codes
        (`pcb.sample.draw.uniforms`). `observe` is called after every step.
        """
        batch = len(labels_B)
        fill = max(0, MIN_CPU_BATCH - batch) if self.device.type == "cpu" else 0
        labels_B = torch.cat([labels_B, labels_B[:1].expand(fill)]).to(self.device)
        filler = uniforms_BT[:1].expand(fill, -1)
        uniforms_BT = torch.cat([uniforms_BT, filler]).to(self.device)
        state = _State.start(self, labels_B, uniforms_BT)
        for step in range(len(self.sequence.steps)):
            seen = state.step(step)
            if observe is not None:
                observe(
                    StepLogits(
                        step=step,
                        logits_BnV=seen.logits_BnV[:batch],
                        codes_Bn=seen.codes_Bn[:batch],
                    )
                )
        return state.row_major()[:batch]


@dataclass(kw_only=True)
class _State:
    """A batch that is being drawn; token tensors are in the order of the sequence."""

    sampler: Sampler
    labels_B: Tensor
    uniforms_BT: Tensor
    codes_BT: Tensor
    source_BTC: Tensor
    cache: Cache
    unguided_filled: bool = False

    @classmethod
    def start(cls, sampler: Sampler, labels_B: Tensor, uniforms_BT: Tensor) -> "_State":
        """Allocate what a batch needs; the first scale's source stays zero."""
        model, sequence = sampler.model, sampler.sequence
        batch, tokens = len(labels_B), model.tokens
        code_dim = model.codebook_VC.shape[1]
        settings = model.settings
        guided = sampler.guidance.needed(len(sequence.steps))
        cache = Cache.allocate(
            layers=settings.layers,
            batch=2 * batch if guided else batch,
            heads=settings.heads,
            length=tokens + 1,
            head_dim=settings.width // settings.heads,
            dtype=model.head.weight.dtype,
            device=sampler.device,
        )
        source = torch.zeros(batch, tokens, code_dim, device=sampler.device)
        return cls(
            sampler=sampler,
            labels_B=labels_B,
            uniforms_BT=uniforms_BT[:, sequence.rows_L[1:]],
            codes_BT=torch.zeros(batch, tokens, dtype=torch.int64, device=sampler.device),
            source_BTC=source,
            cache=cache,
        )

    def step(self, step: int) -> StepLogits:
        """Draw the codes of one block; after a scale's last block, prepare the next scale."""
        first, last = (position - 1 for position in self.sampler.sequence.steps[step])
        logits_BnV = self._logits(step, first, last)
        codes_Bn = draw_codes(logits_BnV, self.uniforms_BT[:, first:last], self.sampler.temperature)
        self.codes_BT[:, first:last] = codes_Bn
        for scale, (_, stop) in enumerate(self.sampler.sequence.tokens_of_scales[:-1]):
            if stop == last:
                self._upsample(scale)
        return StepLogits(step=step, logits_BnV=logits_BnV, codes_Bn=codes_Bn)

    def row_major(self) -> Tensor:
        """Return the codes drawn so far, scale by scale and row-major."""
        codes = torch.empty_like(self.codes_BT)
        codes[:, self.sampler.sequence.rows_L[1:]] = self.codes_BT
        return codes

    def _logits(self, step: int, first: int, last: int) -> Tensor:
        """Logits of tokens first..last, guided if this step is."""
        guidance, batch = self.sampler.guidance, len(self.labels_B)
        if not guidance.active(step):
            return self._forward(self.labels_B, first, last, self.cache.rows(0, batch)).float()
        no_class = torch.full_like(self.labels_B, self.sampler.model.num_classes)
        if first > 0 and not self.unguided_filled:
            # One pass over everything drawn so far, so that unguided steps cost nothing twice.
            self._forward(no_class, 0, first, self.cache.rows(batch, 2 * batch), head=False)
        self.unguided_filled = True
        both = torch.cat([self.labels_B, no_class])
        conditional, unconditional = self._forward(both, first, last, self.cache).float().chunk(2)
        return guidance.mix(conditional, unconditional)

    def _forward(
        self, labels: Tensor, first: int, last: int, cache: Cache, *, head: bool = True
    ) -> Tensor:
        """Run the model on tokens first..last for these labels (one or two for every image)."""
        sequence, model = self.sampler.sequence, self.sampler.model
        # A call that begins with the class token spans several blocks; any other is one block,
        # which sees all that is cached.
        with_class = first == 0
        start = 0 if with_class else first + 1
        mask = self.sampler.mask_LL[: last + 1, : last + 1] if with_class else None
        before = (sequence.before_L[first + 1 : last + 1] - 1).clamp(min=0)
        repeats = len(labels) // len(self.labels_B)
        vectors = model.codebook_VC[self.codes_BT[:, before]]
        inputs = Inputs(
            labels_B=labels,
            source_BTC=self.source_BTC[:, first:last].repeat(repeats, 1, 1),
            before_BTC=vectors.repeat(repeats, 1, 1),
            rows_T=sequence.rows_L[first + 1 : last + 1],
            before_rows_T=sequence.before_rows_L[first + 1 : last + 1],
            with_class=with_class,
        )
        hidden = model.hidden(inputs, Attending(mask=mask, cache=cache, start=start))
        return model.logits(hidden) if head else hidden

    def _upsample(self, scale: int) -> None:
        """Fill in the source of the scale after this one from the codes just completed."""
        sequence, model = self.sampler.sequence, self.sampler.model
        size, finer = sequence.schedule.sizes[scale : scale + 2]
        start, stop = sequence.tokens_of_scales[scale]
        cells = sequence.rows_L[start + 1 : stop + 1] - start
        grid_Bhw = torch.empty_like(self.codes_BT[:, start:stop])
        grid_Bhw[:, cells] = self.codes_BT[:, start:stop]
        vectors_BChw = model.codebook_VC[grid_Bhw].view(-1, size, size, model.codebook_VC.shape[1])
        source = upsample_codes(vectors_BChw.permute(0, 3, 1, 2), finer)
        start, stop = sequence.tokens_of_scales[scale + 1]
        order = sequence.rows_L[start + 1 : stop + 1] - start
        self.source_BTC[:, start:stop] = source.flatten(2).transpose(1, 2)[:, order]
