"""Parts of the stage `sample`: whole batches, single steps, random numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
import torch
from torch import Tensor

from benchmarks.bounds import decoding_phases, sampling_phases
from benchmarks.case import BASELINE, FAST, Case, Part, Precision, Scope
from benchmarks.standins import random_model, random_tokenizer, what_is_drawn
from pcb.config import Autoencoder, Speed
from pcb.config.loader import load_preset
from pcb.config.speed import BASELINE as NO_SPEED
from pcb.data.arrays import to_uint8
from pcb.order.schedule import schedule_from_blocks
from pcb.runtime.device import DTYPES
from pcb.sample.decoder import Block
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import sampler_for
from pcb.sample.sampler import Measured, Sampler
from pcb.sample.uniforms import uniforms

GUIDANCE = Guidance(weight=1.5, start_step=5)
_RUNS = {
    # name: preset, its model, blocks a scale
    "mini": ("mini", "ratio2", 4),
    "S-2x": ("paper", "s-2x", 4),
    "L-2x": ("paper", "l-2x", 4),
    "L-4x": ("paper", "l-4x", 8),
}
_UNIFORMS_IMAGES = 250
_COMPARED = 8
"""Images whose logits are compared, all steps of them in memory."""


def parts(scope: Scope) -> Iterator[Part]:
    """Yield whole batches: the paper's sizes on a GPU, the miniature's and a small S on a CPU.

    Every optimisation is also switched off alone in one size; on a CPU, L takes a single step.
    """
    if scope == "full":
        for run in ("S-2x", "L-2x", "L-4x"):
            for batch in (1, 8, 64, 256):
                yield _Sampling(run, batch, Guidance(), "bfloat16").part()
                yield _Sampling(run, batch, GUIDANCE, "bfloat16", each=batch == 64).part()
            # One image, and the best batch: what people wait for, and what a sweep costs.
            for batch in (1, 64, 256):
                yield _Sampling(run, batch, GUIDANCE, "bfloat16", decoded=True).part()
        yield _Sampling("L-2x", 64, GUIDANCE, "bfloat16", each=True, step=16).part()
    elif scope == "short":
        yield _Sampling("mini", 2, GUIDANCE, each=True).part()
        yield _Sampling("mini", 64, GUIDANCE).part()
        yield _Sampling("mini", 64, GUIDANCE, decoded=True).part()
        yield _Sampling("S-2x", 2, Guidance()).part()
        yield _Sampling("L-2x", 2, GUIDANCE, step=8).part()
    else:
        yield _Sampling("mini", 2, GUIDANCE).part()
    yield Part(name="sampling/uniforms", item="images", make=_uniforms)


@dataclass(frozen=True)
class _Sampling:
    """One batch of one model, decoded or not, or one step of it.

    `each` adds a variant for each optimisation.
    """

    run: str
    batch: int
    guidance: Guidance
    precision: Precision = "float32"
    each: bool = False
    step: int | None = None
    decoded: bool = False

    def part(self) -> Part:
        """Return the part by its name."""
        name = f"sampling/{self.run}/b{self.batch}"
        name += "-guided" if self.guidance.weight else ""
        name += "-decoded" if self.decoded else ""
        return Part(
            name=name if self.step is None else f"{name}/step{self.step}",
            item="images",
            make=self.make,
            precision=self.precision,
            kind="sampling" if self.step is None and not self.decoded else None,
        )

    def make(self, device: torch.device) -> Case:
        """Make the model ready; its weights are random, on which time does not depend."""
        preset, name, blocks = _RUNS[self.run]
        settings = load_preset(preset)
        codes, run = settings.tokenizer.autoencoder, settings.models[name].model
        schedule = schedule_from_blocks(settings.sizes(name), blocks)
        model = random_model(settings, name, schedule.sizes).to(device).eval().requires_grad_(False)
        model.round_to(DTYPES[self.precision])
        classes_B, uniforms_BT = what_is_drawn(model, self.batch)
        make = partial(sampler_for, model, schedule, guidance=self.guidance)
        speeds = _speeds(self.each, device)
        samplers = {name: make(speed=speed) for name, speed in speeds.items()}
        guided_from = self.guidance.start_step if self.guidance.weight else None
        phases = sampling_phases(
            run,
            codes,
            schedule,
            guided_from,
            batch=self.batch,
            value_bytes=model.head.weight.element_size(),
        )
        decode = _decoder(codes, settings.grid, self.precision, device) if self.decoded else None
        if decode is not None:
            phases += decoding_phases(codes, settings.grid, self.precision, self.batch)
        return Case(
            variants={
                name: self._call(sampler, classes_B, uniforms_BT, decode)
                for name, sampler in samplers.items()
            },
            items=self.batch,
            phases=tuple(phases if self.step is None else phases[self._phase(guided_from)]),
            settings={
                "blocks": blocks,
                "steps": schedule.steps,
                "guidance": self.guidance.weight,
                "guided_from": guided_from,
            },
            differences=None
            if self.step is not None
            else lambda: _differences(
                {
                    name: make(speed=speed, measure=_codes_and_logits)
                    for name, speed in speeds.items()
                },
                classes_B,
                uniforms_BT,
            ),
        )

    def _call(
        self,
        sampler: Sampler,
        classes_B: Tensor,
        uniforms_BT: Tensor,
        decode: Callable[[Tensor], Tensor] | None,
    ) -> Callable[[], object]:
        """Return what draws the batch, and decodes it, or takes its step over and over."""
        step = self.step
        if decode is not None:
            return lambda: decode(sampler.sample(classes_B, uniforms_BT))
        if step is None:
            return lambda: sampler.sample(classes_B, uniforms_BT)
        sampler.begin(classes_B, uniforms_BT)
        return lambda: sampler.step(step)

    def _phase(self, guided_from: int | None) -> slice:
        """Return which of a batch's phases is the step's."""
        assert self.step is not None and self.step != guided_from
        place = self.step + (guided_from is not None and self.step > guided_from)
        return slice(place, place + 1)


def _decoder(
    settings: Autoencoder, grid: int, precision: Precision, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return what makes pixels of all tokens of some images, by a decoder of random weights."""
    tokenizer = random_tokenizer(settings, device, precision)

    @torch.inference_mode()
    def decode(codes_BT: Tensor) -> Tensor:
        return to_uint8(tokenizer.decode(codes_BT[:, -grid * grid :].view(-1, grid, grid)))

    return decode


def _speeds(each: bool, device: torch.device) -> dict[str, Speed]:
    """Return the variants: all optimisations, none, and if asked for all but one."""
    found = {FAST: Speed(), BASELINE: NO_SPEED}
    if each:
        elsewhere = {"cpu": "graphs", "cuda": "small_batches"}[device.type]
        for name in Speed.__struct_fields__:
            if name != elsewhere:
                found[f"without {name}"] = msgspec.structs.replace(Speed(), **{name: False})
    return found


def _differences(
    samplers: dict[str, Sampler], classes_B: Tensor, uniforms_BT: Tensor
) -> dict[str, dict[str, float]]:
    """Compare some images' codes and logits with the first sampler's, from the same numbers.

    Logits count up to the first code that differs: what follows that is another image.
    """
    some = slice(0, _COMPARED)
    seen = {name: _seen(s, classes_B[some], uniforms_BT[some]) for name, s in samplers.items()}
    codes, logits = next(iter(seen.values()))
    found = {}
    for name, (other_codes, other) in seen.items():
        differs_BT = codes != other_codes
        same_BT = (differs_BT.cumsum(1) - differs_BT.long()) == 0
        found[name] = {
            "logits": float((other - logits).abs().amax(-1)[same_BT].max()),
            "codes": float(differs_BT.double().mean()),
        }
    return found


def _codes_and_logits(block: Block) -> Measured:
    return block.codes_Bn, block.logits_BnV


def _seen(sampler: Sampler, classes_B: Tensor, uniforms_BT: Tensor) -> list[Tensor]:
    """Return codes and logits of all tokens in the order in which they are sampled."""
    steps: list[Measured] = []

    def observe(_step: int, measured: Measured) -> None:
        steps.append(tuple(part.clone() for part in measured))

    sampler.sample(classes_B, uniforms_BT, observe=observe)
    return [torch.cat(parts, dim=1) for parts in zip(*steps, strict=True)]


def _uniforms(device: torch.device) -> Case:
    """Make the random numbers of some images, which a CPU does."""
    sizes = load_preset("paper").sizes("l-2x")
    images = np.arange(_UNIFORMS_IMAGES)
    return Case(variants={FAST: lambda: uniforms(0, images, sizes)}, items=len(images))
