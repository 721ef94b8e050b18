"""Parts of the stage `sample`: batches, decoded or not, and single steps.

Weights are random: time does not depend on them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from benchmarks.machine import Phase
from benchmarks.measure import BASELINE, FAST, Case, Part, Precision, single
from benchmarks.stages import random_tokenizer
from pcb.config import Autoencoder, Preset, Speed
from pcb.config.loader import load_preset
from pcb.config.speed import BASELINE as NO_SPEED
from pcb.data.arrays import to_uint8
from pcb.model.transformer import Transformer
from pcb.order.schedule import Schedule, schedule_from_blocks
from pcb.preflight import flops
from pcb.preflight.rates import Kind
from pcb.runtime.device import DTYPES
from pcb.sample.guidance import OFF, Guidance
from pcb.sample.pyramid import sampler_for
from pcb.sample.sampler import Sampler, sample_measured
from pcb.sample.uniforms import labels, uniforms
from pcb.tokenizer.quantize import normalize

GUIDANCE = Guidance(weight=1.5, start_step=5)
RUNS = {
    # name: preset, its model, blocks per scale
    "mini": ("mini", "ratio2", 4),
    "S-2x": ("paper", "s-2x", 4),
    "L-2x": ("paper", "l-2x", 4),
    "L-4x": ("paper", "l-4x", 8),
}
_COMPARED = 8
"""Images whose logits are compared, all steps of them in memory."""


def parts(device: torch.device) -> Iterator[Part]:
    """Yield whole batches: the paper's sizes on a GPU, the miniature's and a small S on a CPU.

    Every optimization is also switched off alone in one size; on a CPU, L takes a single step.
    """
    if device.type == "cuda":
        half: Precision = "bfloat16"
        for run in ("S-2x", "L-2x", "L-4x"):
            for batch in (1, 8, 64, 256):
                yield Sampling(run, batch, OFF, half).part()
                yield Sampling(run, batch, GUIDANCE, half, each=batch == 64).part()
            # One image, and the best batch: what people wait for, and what a sweep costs.
            for batch in (1, 64, 256):
                yield Sampling(run, batch, GUIDANCE, half, decoded=True).part()
        yield Sampling("L-2x", 64, GUIDANCE, half, each=True, step=16).part()
    else:
        yield Sampling("mini", 2, GUIDANCE, each=True).part()
        yield Sampling("mini", 64, GUIDANCE).part()
        yield Sampling("mini", 64, GUIDANCE, decoded=True).part()
        yield Sampling("S-2x", 2, OFF).part()
        yield Sampling("L-2x", 2, GUIDANCE, step=8).part()
    # A CPU makes the random numbers.
    made = partial(uniforms, 0, np.arange(250), load_preset("paper").sizes("l-2x"))
    yield Part("sampling/uniforms", lambda _: single(made, 250))


@dataclass(frozen=True)
class Sampling:
    """One batch of one model, decoded or not, or one step; `each`: also without each switch."""

    run: str
    batch: int
    guidance: Guidance
    precision: Precision = "float32"
    each: bool = False
    step: int | None = None
    decoded: bool = False

    def part(self) -> Part:
        """Return the part by its name."""
        guided = "-guided" if self.guidance.weight else ""
        decoded = "-decoded" if self.decoded else ""
        step = "" if self.step is None else f"/step{self.step}"
        name = f"sampling/{self.run}/b{self.batch}{guided}{decoded}{step}"
        kind: Kind | None = None if decoded or step else "sampling"
        return Part(name, self.make, precision=self.precision, kind=kind)

    def speeds(self, device: torch.device) -> dict[str, Speed]:
        """Return the variants: all optimizations, none, and if asked for all but one."""
        elsewhere = {"cpu": "graphs", "cuda": "small_batches"}[device.type]
        names = [name for name in Speed.__struct_fields__ if self.each and name != elsewhere]
        without = {f"without {name}": replace(Speed(), **{name: False}) for name in names}
        return {FAST: Speed(), BASELINE: NO_SPEED, **without}

    def make(self, device: torch.device) -> Case:
        """Make model and samplers ready."""
        preset, model, schedule = random_model(self.run, device, self.precision)
        codes, grid = preset.tokenizer.autoencoder, preset.grid
        batch = random_batch(model, self.batch)
        make = partial(sampler_for, model, schedule, guidance=self.guidance)
        speeds, phases = self.speeds(device), self._phases(model, codes, schedule)
        if self.decoded:
            tokenizer = random_tokenizer(codes, device, self.precision)
            phases.append(Phase(flops=self.batch * flops.decode(codes, grid)))

        @torch.inference_mode()
        def sample(sampler: Sampler) -> Tensor:
            codes_BT = sampler.sample(*batch)
            if not self.decoded:
                return codes_BT
            return to_uint8(tokenizer.decode(codes_BT[:, -grid * grid :].view(-1, grid, grid)))

        def call(sampler: Sampler) -> Callable[[], object]:
            if self.step is None:
                return partial(sample, sampler)
            sampler.begin(*batch)
            return partial(sampler.step, self.step)

        def output(speed: Speed) -> Observed:
            sampler = make(speed=speed, measure=codes_and_logits)
            return observed(sampler, *random_batch(model, _COMPARED))

        return Case(
            variants={name: call(make(speed=speed)) for name, speed in speeds.items()},
            items=self.batch,
            phases=phases,
            width=model.settings.width,
            compare=apart if self.step is None else None,
            outputs={name: partial(output, speed) for name, speed in speeds.items()},
            graphed=device.type == "cuda",
        )

    def _phases(self, model: Transformer, codes: Autoencoder, schedule: Schedule) -> list[Phase]:
        """Return a phase for every call of the model in a batch, or that of the one step.

        A call reads the layers and the head, the keys and values of what was sampled, and writes
        its own and the logits.
        """
        settings, value_bytes = model.settings, model.head.weight.element_size()
        width, codebook = settings.width, codes.codebook_size
        weights = settings.layers * width * (4 * width + 3 * settings.hidden) + width * codebook
        guided_from = self.guidance.start_step if self.guidance.weight else None
        phases = []
        for call in flops.sampling_calls(schedule, guided_from):
            values = 2 * settings.layers * width * call.attended + call.tokens * codebook
            moved = value_bytes * (weights + call.classes * self.batch * values)
            operations = self.batch * flops.call_forward(settings, codes, call)
            phases.append(Phase(flops=operations, bytes=moved))
        if self.step is None:
            return phases
        return [phases[self.step + (guided_from is not None and self.step > guided_from)]]


def random_model(
    run: str, device: torch.device, precision: str = "float32", grid: int = 0
) -> tuple[Preset, Transformer, Schedule]:
    """Return the preset, the model, ready to sample, and the schedule of one of `RUNS`.

    Weights are random, the head's too. `grid` tokens per side at the finest scale, if not 0.
    """
    name, model_name, blocks = RUNS[run]
    preset = load_preset(name)
    settings, codes = preset.models[model_name].model, preset.tokenizer.autoencoder
    torch.manual_seed(0)
    codebook = normalize(torch.randn(codes.codebook_size, codes.code_dim), dim=-1)
    sizes = settings.sizes(grid or preset.grid)
    model = Transformer(settings, sizes, preset.data.num_classes, codebook)
    torch.nn.init.normal_(model.head.weight, std=settings.width**-0.5)
    model.to(device).eval().requires_grad_(False).round_to(DTYPES[precision])
    return preset, model, schedule_from_blocks(model.sizes, blocks)


def random_batch(model: Transformer, images: int) -> tuple[Tensor, Tensor]:
    """Return classes (B,) and random numbers (B, T) of the first images, on a model's device."""
    chosen, device = np.arange(images), model.codebook_VC.device
    classes_B = torch.from_numpy(labels(model.num_classes, chosen)).to(device)
    return classes_B, torch.from_numpy(uniforms(0, chosen, model.sizes)).to(device)


Observed = tuple[Tensor, ...]
"""Codes (B, T) and logits (B, T, V) of all tokens in the order in which they are sampled."""
codes_and_logits = attrgetter("codes_Bn", "logits_BnV")
"""What `observed` wants to see of every block."""


def observed(sampler: Sampler, classes_B: Tensor, uniforms_BT: Tensor) -> Observed:
    """Sample a batch; return what was seen of it by a sampler that measures `codes_and_logits`."""
    _, steps = sample_measured(sampler, classes_B, uniforms_BT)
    return tuple(torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))


def apart(one: Observed, other: Observed) -> dict[str, float]:
    """Return the fraction of codes that differ and the largest difference of logits.

    Logits count up to the first code that differs: what follows that is another image.
    """
    differs_BT = one[0] != other[0]
    same_BT = (differs_BT.cumsum(1) - differs_BT.long()) == 0
    return {
        "logits": float((other[1] - one[1]).abs().amax(-1)[same_BT].max()),
        "codes": float(differs_BT.double().mean()),
    }
