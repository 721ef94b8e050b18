"""Parts of the stage `sample`: whole batches, decoded or not, single steps, random numbers.

Weights are random: time does not depend on them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from benchmarks.machine import Phase, Precision
from benchmarks.measure import BASELINE, FAST, Case, Part, Scope
from benchmarks.stages import decoding_phases, random_tokenizer
from pcb.config import Autoencoder, Model, Preset, Speed
from pcb.config.loader import load_preset
from pcb.config.speed import BASELINE as NO_SPEED
from pcb.data.arrays import to_uint8
from pcb.model.transformer import Transformer
from pcb.order.schedule import Schedule, schedule_from_blocks
from pcb.preflight import flops
from pcb.runtime.device import DTYPES
from pcb.sample.draw import labels, uniforms
from pcb.sample.drawing import StepLogits
from pcb.sample.guidance import Guidance
from pcb.sample.sampler import Sampler
from pcb.tokenizer.quantize import normalise

GUIDANCE = Guidance(weight=1.5, start_step=5)
RUNS = {
    # name: preset, its model, blocks per scale
    "mini": ("mini", "ratio2", 4),
    "S-2x": ("paper", "s-2x", 4),
    "S-1.26x": ("paper", "s-1.26x", 16),
    "L-2x": ("paper", "l-2x", 4),
    "L-4x": ("paper", "l-4x", 8),
}
_COMPARED = 8
"""Images whose logits are compared, all steps of them in memory."""


def parts(scope: Scope) -> Iterator[Part]:
    """Yield whole batches: the paper's sizes on a GPU, the miniature's and a small S on a CPU.

    Every optimization is also switched off alone in one size; on a CPU, L takes a single step.
    """
    if scope == "full":
        for run in ("S-2x", "L-2x", "L-4x"):
            for batch in (1, 8, 64, 256):
                yield Sampling(run, batch, Guidance(), "bfloat16").part()
                yield Sampling(run, batch, GUIDANCE, "bfloat16", each=batch == 64).part()
            # One image, and the best batch: what people wait for, and what a sweep costs.
            for batch in (1, 64, 256):
                yield Sampling(run, batch, GUIDANCE, "bfloat16", decoded=True).part()
        yield Sampling("L-2x", 64, GUIDANCE, "bfloat16", each=True, step=16).part()
    elif scope == "short":
        yield Sampling("mini", 2, GUIDANCE, each=True).part()
        yield Sampling("mini", 64, GUIDANCE).part()
        yield Sampling("mini", 64, GUIDANCE, decoded=True).part()
        yield Sampling("S-2x", 2, Guidance()).part()
        yield Sampling("L-2x", 2, GUIDANCE, step=8).part()
    else:
        yield Sampling("mini", 2, GUIDANCE).part()
    yield Part(name="sampling/uniforms", item="images", make=_uniforms)


@dataclass(frozen=True)
class Sampling:
    """One batch of one model, decoded or not, or one step of it.

    each: whether to add a variant without each optimization.
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
            width=width_of(self.run),
        )

    def make(self, device: torch.device) -> Case:
        """Make model and samplers ready."""
        preset, model, schedule = model_and_schedule(self.run, device, self.precision)
        codes, classes_B, uniforms_BT = preset.tokenizer.autoencoder, *drawn(model, self.batch)
        speeds = _speeds(self.each, device)
        samplers = {
            name: Sampler(model, schedule, guidance=self.guidance, speed=speed)
            for name, speed in speeds.items()
        }
        guided_from = self.guidance.start_step if self.guidance.weight else None
        value_bytes = model.head.weight.element_size()
        phases = sampling_phases(
            model.settings, codes, schedule, guided_from, batch=self.batch, value_bytes=value_bytes
        )
        decode = None
        if self.decoded:
            decode = decoder(codes, preset.grid, self.precision, device)
            phases += decoding_phases(codes, preset.grid, self.precision, self.batch)
        return Case(
            variants={
                name: self._call(sampler, classes_B, uniforms_BT, decode)
                for name, sampler in samplers.items()
            },
            items=self.batch,
            phases=phases if self.step is None else [phases[self._phase(guided_from)]],
            differences=None
            if self.step is not None
            else lambda: _differences(samplers, classes_B, uniforms_BT),
            graphed=device.type == "cuda",
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
            return lambda: decode(sampler.draw(classes_B, uniforms_BT))
        if step is None:
            return lambda: sampler.draw(classes_B, uniforms_BT)
        drawing = sampler.begin(classes_B, uniforms_BT)
        return lambda: sampler.step(drawing, step)

    def _phase(self, guided_from: int | None) -> int:
        """Return which of a batch's phases is the step's."""
        assert self.step is not None and self.step != guided_from
        return self.step + (guided_from is not None and self.step > guided_from)


@cache
def width_of(run: str) -> int:
    """Return the width of the transformer of one of `RUNS`."""
    preset, model, _ = RUNS[run]
    return load_preset(preset).models[model].model.width


def model_and_schedule(
    run: str, device: torch.device, precision: str
) -> tuple[Preset, Transformer, Schedule]:
    """Return one of `RUNS` ready to draw: its preset, its model rounded, its schedule."""
    name, model_name, blocks = RUNS[run]
    preset = load_preset(name)
    schedule = schedule_from_blocks(preset.sizes(model_name), blocks)
    model = random_model(preset, model_name, schedule.sizes).to(device)
    model.eval().requires_grad_(False).round_to(DTYPES[precision])
    return preset, model, schedule


def random_model(preset: Preset, name: str, sizes: Sequence[int]) -> Transformer:
    """Return one of a preset's models with random weights, the head's too, on the CPU."""
    settings, codes = preset.models[name].model, preset.tokenizer.autoencoder
    torch.manual_seed(0)
    codebook = normalise(torch.randn(codes.codebook_size, codes.code_dim), dim=-1)
    model = Transformer(settings, sizes, preset.data.num_classes, codebook)
    torch.nn.init.normal_(model.head.weight, std=settings.width**-0.5)
    return model


def drawn(model: Transformer, images: int) -> tuple[Tensor, Tensor]:
    """Return classes (B,) and random numbers (B, T) of the first images, on a model's device."""
    chosen, device = np.arange(images), model.codebook_VC.device
    classes_B = torch.from_numpy(labels(model.num_classes, chosen)).to(device)
    return classes_B, torch.from_numpy(uniforms(0, chosen, model.sizes)).to(device)


def decoder(
    settings: Autoencoder, grid: int, precision: Precision, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return what makes (B, 3, H, W) bytes of all tokens of some images."""
    tokenizer = random_tokenizer(settings, device, precision)

    @torch.inference_mode()
    def decode(codes_BT: Tensor) -> Tensor:
        return to_uint8(tokenizer.decode(codes_BT[:, -grid * grid :].view(-1, grid, grid)))

    return decode


def sampling_phases(
    model: Model,
    codes: Autoencoder,
    schedule: Schedule,
    guided_from: int | None,
    *,
    batch: int,
    value_bytes: int,
) -> list[Phase]:
    """Return a phase for every step of drawing a batch, and one that catches up with guidance.

    A step reads the layers and the head, the keys and values of what was drawn, and writes its own
    and the logits, `value_bytes` each. `guided_from` is as in `pcb.preflight.flops.sampling`.
    """
    width = model.width
    weights = model.layers * (4 * width * width + 3 * width * model.hidden)
    weights += width * codes.codebook_size

    def call(tokens: int, seen: int, classes: int = 1) -> Phase:
        values = 2 * model.layers * width * seen + tokens * codes.codebook_size
        return Phase(
            flops=batch * flops.tokens_forward(model, codes, tokens, seen, classes=classes),
            bytes=value_bytes * (weights + classes * batch * values),
        )

    phases, done, step = [], 1, 0
    for blocks in schedule.blocks:
        for size in blocks:
            if step == guided_from:
                phases.append(call(done, done))
            guided = guided_from is not None and step >= guided_from
            phases.append(call(size, done + size, 2 if guided else 1))
            done, step = done + size, step + 1
    return phases


def _speeds(each: bool, device: torch.device) -> dict[str, Speed]:
    """Return the variants: all optimizations, none, and if asked for all but one."""
    found = {FAST: Speed(), BASELINE: NO_SPEED}
    elsewhere = {"cpu": "graphs", "cuda": "small_batches"}[device.type]
    for name in Speed.__struct_fields__ if each else ():
        if name != elsewhere:
            found[f"without {name}"] = replace(Speed(), **{name: False})
    return found


def _differences(
    samplers: dict[str, Sampler], classes_B: Tensor, uniforms_BT: Tensor
) -> dict[str, dict[str, float]]:
    """Compare some images' codes and logits with the first sampler's, from the same numbers."""
    some = slice(0, _COMPARED)
    seen = {name: observed(s, classes_B[some], uniforms_BT[some]) for name, s in samplers.items()}
    first = next(iter(seen.values()))
    return {name: apart(first, other) for name, other in seen.items()}


Observed = tuple[Tensor, Tensor]
"""Codes (B, T) and logits (B, T, V) of all tokens in the order in which they are drawn."""


def observed(sampler: Sampler, classes_B: Tensor, uniforms_BT: Tensor) -> Observed:
    """Draw a batch; return what was seen of it."""
    codes: list[Tensor] = []
    logits: list[Tensor] = []

    def observe(step: StepLogits) -> None:
        codes.append(step.codes_Bn.clone())
        logits.append(step.logits_BnV.float().clone())

    sampler.draw(classes_B, uniforms_BT, observe)
    return torch.cat(codes, dim=1), torch.cat(logits, dim=1)


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


def _uniforms(_: torch.device) -> Case:
    """Make the random numbers of some images, which a CPU does."""
    sizes, images = load_preset("paper").sizes("l-2x"), np.arange(250)
    return Case(variants={FAST: lambda: uniforms(0, images, sizes)}, items=len(images))
