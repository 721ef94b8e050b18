"""Parts of the stage `sample`: batches, decoded or not, and single steps.

Weights are random: time does not depend on them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from benchmarks.machine import Phase, Precision
from benchmarks.measure import BASELINE, FAST, Case, Part, Scope, single
from benchmarks.stages import phase_of, random_tokenizer
from pcb.config import Autoencoder, Preset, Speed
from pcb.config.loader import load_preset
from pcb.config.speed import BASELINE as NO_SPEED
from pcb.data.arrays import to_uint8
from pcb.model.transformer import Transformer
from pcb.order.schedule import Schedule, schedule_from_blocks
from pcb.preflight import flops
from pcb.report.times import OWN as OWN_BY_RATIO
from pcb.runtime.device import DTYPES
from pcb.sample.decoder import Block
from pcb.sample.guidance import OFF, Guidance
from pcb.sample.pyramid import sampler_for
from pcb.sample.sampler import Measured, Sampler, sample_measured
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
OWN = {f"L-{ratio}x": name for ratio, name in OWN_BY_RATIO.items()}
"""Runs of the paper's own model among the systems of Table 1."""
_COMPARED = 8
"""Images whose logits are compared, all steps of them in memory."""


def parts(scope: Scope) -> Iterator[Part]:
    """Yield whole batches: the paper's sizes on a GPU, the miniature's and a small S on a CPU.

    Every optimization is also switched off alone in one size; on a CPU, L takes a single step.
    """
    half: Precision = "bfloat16"
    if scope == "full":
        for run in ("S-2x", "L-2x", "L-4x"):
            for batch in (1, 8, 64, 256):
                yield Sampling(run, batch, OFF, half).part()
                yield Sampling(run, batch, GUIDANCE, half, each=batch == 64).part()
            # One image, and the best batch: what people wait for, and what a sweep costs.
            for batch in (1, 64, 256):
                yield Sampling(run, batch, GUIDANCE, half, decoded=True).part()
        yield Sampling("L-2x", 64, GUIDANCE, half, each=True, step=16).part()
    elif scope == "short":
        yield Sampling("mini", 2, GUIDANCE, each=True).part()
        yield Sampling("mini", 64, GUIDANCE).part()
        yield Sampling("mini", 64, GUIDANCE, decoded=True).part()
        yield Sampling("S-2x", 2, OFF).part()
        yield Sampling("L-2x", 2, GUIDANCE, step=8).part()
    else:
        yield Sampling("mini", 2, GUIDANCE).part()
    # A CPU makes the random numbers.
    made = partial(uniforms, 0, np.arange(250), load_preset("paper").sizes("l-2x"))
    yield Part(name="sampling/uniforms", make=lambda _: single(made, 250))


@dataclass(frozen=True)
class Sampling:
    """One batch of one model, decoded or not, or one step of it.

    each: whether to add a variant without each optimization. as_system: whether it is one of Table
    1's systems, the program as it is alone.
    """

    run: str
    batch: int
    guidance: Guidance
    precision: Precision = "float32"
    each: bool = False
    step: int | None = None
    decoded: bool = False
    as_system: bool = False

    def part(self) -> Part:
        """Return the part by its name."""
        decoded = "-decoded" if self.decoded else ""
        if self.as_system:
            name = f"systems/{OWN[self.run]}/b{self.batch}{decoded}"
            return Part(name=name, make=self.make, precision=self.precision)
        guided = "-guided" if self.guidance.weight else ""
        step = "" if self.step is None else f"/step{self.step}"
        return Part(
            name=f"sampling/{self.run}/b{self.batch}{guided}{decoded}{step}",
            make=self.make,
            precision=self.precision,
            kind=None if decoded or step else "sampling",
        )

    def make(self, device: torch.device) -> Case:
        """Make model and samplers ready."""
        preset, model, schedule = model_and_schedule(self.run, device, self.precision)
        codes, grid = preset.tokenizer.autoencoder, preset.grid
        batch = random_batch(model, self.batch)
        make = partial(sampler_for, model, schedule, guidance=self.guidance)
        speeds = {FAST: Speed()} if self.as_system else _speeds(self.each, device)
        phases = self._phases(model, codes, schedule)
        if self.decoded:
            tokenizer = random_tokenizer(codes, device, self.precision)
            phases.append(phase_of(flops.decode, codes, grid, self.batch, self.precision))

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
            facts={"model calls": schedule.steps} if self.as_system else {},
            compare=apart if self.step is None and not self.as_system else None,
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
            bytes_ = value_bytes * (weights + call.classes * self.batch * values)
            operations = self.batch * flops.call_forward(settings, codes, call)
            phases.append(Phase(flops=operations, bytes=bytes_))
        if self.step is None:
            return phases
        return [phases[self.step + (guided_from is not None and self.step > guided_from)]]


def random_model(run: str, grid: int = 0) -> tuple[Preset, Transformer]:
    """Return one of `RUNS`: its preset, and its model with random weights, the head's too.

    `grid` tokens per side at the finest scale, the preset's own if 0.
    """
    name, model_name, _ = RUNS[run]
    preset = load_preset(name)
    settings, codes = preset.models[model_name].model, preset.tokenizer.autoencoder
    torch.manual_seed(0)
    codebook = normalize(torch.randn(codes.codebook_size, codes.code_dim), dim=-1)
    sizes = settings.sizes(grid or preset.grid)
    model = Transformer(settings, sizes, preset.data.num_classes, codebook)
    torch.nn.init.normal_(model.head.weight, std=settings.width**-0.5)
    return preset, model


def model_and_schedule(
    run: str, device: torch.device, precision: str = "float32", grid: int = 0
) -> tuple[Preset, Transformer, Schedule]:
    """Return what `random_model` does, rounded and ready to sample, and the run's schedule."""
    preset, model = random_model(run, grid)
    model.to(device).eval().requires_grad_(False).round_to(DTYPES[precision])
    return preset, model, schedule_from_blocks(model.sizes, RUNS[run][2])


def random_batch(model: Transformer, images: int) -> tuple[Tensor, Tensor]:
    """Return classes (B,) and random numbers (B, T) of the first images, on a model's device."""
    chosen, device = np.arange(images), model.codebook_VC.device
    classes_B = torch.from_numpy(labels(model.num_classes, chosen)).to(device)
    return classes_B, torch.from_numpy(uniforms(0, chosen, model.sizes)).to(device)


def _speeds(each: bool, device: torch.device) -> dict[str, Speed]:
    """Return the variants: all optimizations, none, and if asked for all but one."""
    elsewhere = {"cpu": "graphs", "cuda": "small_batches"}[device.type]
    names = [name for name in Speed.__struct_fields__ if each and name != elsewhere]
    without = {f"without {name}": replace(Speed(), **{name: False}) for name in names}
    return {FAST: Speed(), BASELINE: NO_SPEED, **without}


Observed = tuple[Tensor, ...]
"""Codes (B, T) and logits (B, T, V) of all tokens in the order in which they are sampled."""


def codes_and_logits(block: Block) -> Measured:
    """Return what `observed` wants to see of every block."""
    return block.codes_Bn, block.logits_BnV


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
