"""Parts of the stage `sample`: batches, decoded or not, single steps; the table's other systems.

Weights are random: time does not depend on them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

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
from pcb.published.systems import catalog
from pcb.report.times import OWN as OWN_BY_RATIO
from pcb.runtime.device import DTYPES
from pcb.sample.decoder import Block, Decoder
from pcb.sample.filter import Filter
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import sampler_for
from pcb.sample.sampler import Measured, Sampler
from pcb.sample.uniforms import labels, uniforms
from pcb.systems.kinds import KINDS
from pcb.systems.var_decoding import VARDecoder
from pcb.systems.var_quantizer import VARTokenizerConfig
from pcb.systems.var_tokenizer import VARTokenizer
from pcb.tokenizer.quantize import normalize

GUIDANCE = Guidance(weight=1.5, start_step=5)
RUNS = {
    # name: preset, its model, blocks per scale
    "mini": ("mini", "ratio2", 4),
    "S-2x": ("paper", "s-2x", 4),
    "S-1.26x": ("paper", "s-1.26x", 16),
    "L-2x": ("paper", "l-2x", 4),
    "L-4x": ("paper", "l-4x", 8),
}
OWN = {f"L-{ratio}x": name for ratio, name in OWN_BY_RATIO.items()}
"""Runs of the paper's own model among the systems of Table 1."""
_COMPARED = 8
"""Images whose logits are compared, all steps of them in memory."""

Batch = tuple[Tensor, Tensor, Tensor | None]
_SMALL = {
    "width": 64,
    "hidden_width": 256,
    "heads": 4,
    "blocks": 2,
    "self_blocks": 1,
    "cross_blocks": 1,
    "codes": 64,
    "classes": 10,
    "grid": (6, 6),
    "scales": (1, 2, 3),
    "code_width": 32,
}
"""For a trial run on a CPU, in place of what a description says."""
_SMALL_STEPS = 12


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
    yield from _system_parts(scope)


def _system_parts(scope: Scope) -> Iterator[Part]:
    """Yield whole batches of all eight systems on a GPU; on a CPU a step of each as a ratio."""
    for name in catalog() if scope == "short" else ():
        yield SystemStep(name).part()
    for batch in (1, 64, 256) if scope == "full" else ():
        for decoded in (False, True):
            for run in OWN:
                yield own_part(run, batch, decoded=decoded)
            for name in catalog():
                yield System(name, batch, decoded=decoded).part()


def own_part(run: str, batch: int, *, decoded: bool) -> Part:
    """Return a batch of the paper's own model as one of Table 1's systems."""
    name = f"systems/{OWN[run]}/b{batch}{'-decoded' if decoded else ''}"
    return Sampling(run, batch, GUIDANCE, "bfloat16", decoded=decoded).part(name)


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

    def part(self, name: str | None = None) -> Part:
        """Return the part by its name, or another."""
        if name is not None:
            return Part(name=name, item="images", make=self.make_alone, precision=self.precision)
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

    def make_alone(self, device: torch.device) -> Case:
        """Make the program as it is ready, and count its model calls."""
        case, (preset, model, blocks) = self.make(device), RUNS[self.run]
        steps = schedule_from_blocks(load_preset(preset).sizes(model), blocks).steps
        return dataclasses.replace(
            case,
            variants={FAST: case.variants[FAST]},
            differences=None,
            facts={"model calls": steps},
        )

    def make(self, device: torch.device) -> Case:
        """Make model and samplers ready."""
        preset, model, schedule = model_and_schedule(self.run, device, self.precision)
        codes, classes_B, uniforms_BT = preset.tokenizer.autoencoder, *drawn(model, self.batch)
        make = partial(sampler_for, model, schedule, guidance=self.guidance)
        speeds = _speeds(self.each, device)
        samplers = {name: make(speed=speed) for name, speed in speeds.items()}
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
            else partial(_differences, make, speeds, model),
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
            return lambda: decode(sampler.sample(classes_B, uniforms_BT))
        if step is None:
            return lambda: sampler.sample(classes_B, uniforms_BT)
        sampler.begin(classes_B, uniforms_BT)
        return lambda: sampler.step(step)

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
    codebook = normalize(torch.randn(codes.codebook_size, codes.code_dim), dim=-1)
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
    make: Callable[..., Sampler], speeds: Mapping[str, Speed], model: Transformer
) -> dict[str, dict[str, float]]:
    """Compare some images' codes and logits with the first way's, from the same numbers."""
    some = drawn(model, _COMPARED)
    seen = {
        name: observed(make(speed=speed, measure=codes_and_logits), *some)
        for name, speed in speeds.items()
    }
    first = next(iter(seen.values()))
    return {name: apart(first, other) for name, other in seen.items()}


Observed = tuple[Tensor, ...]
"""Codes (B, T) and logits (B, T, V) of all tokens in the order in which they are sampled."""


def codes_and_logits(block: Block) -> Measured:
    """Return what `observed` wants to see of every block."""
    return block.codes_Bn, block.logits_BnV


def observed(sampler: Sampler, classes_B: Tensor, uniforms_BT: Tensor) -> Observed:
    """Sample a batch; return what was seen of it by a sampler that measures `codes_and_logits`."""
    steps: list[Measured] = []

    def observe(_: int, measured: Measured) -> None:
        steps.append(tuple(part.clone() for part in measured))

    sampler.sample(classes_B, uniforms_BT, observe=observe)
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


def _uniforms(_: torch.device) -> Case:
    """Make the random numbers of some images, which a CPU does."""
    sizes, images = load_preset("paper").sizes("l-2x"), np.arange(250)
    return Case(variants={FAST: lambda: uniforms(0, images, sizes)}, items=len(images))


@dataclass(frozen=True)
class SystemStep:
    """The middle step of another system, one image, beside that of the paper's own model.

    What a CPU carries of the systems: ratios alone, in float32.
    """

    name: str
    run: str = "L-2x"
    small: bool = False

    def part(self) -> Part:
        """Return the part by its name."""
        return Part(name=f"systems/{self.name}/b1/step", item="steps", make=self.make)

    def make(self, device: torch.device) -> Case:
        """Make both models ready."""
        of_system = System(self.name, 1, precision="float32", small=self.small)
        decoder, filter, batch, _ = of_system.ready(device)
        system = Sampler(decoder, filter=filter)
        system.begin(*batch)
        _, model, schedule = model_and_schedule(self.run, device, "float32")
        own = sampler_for(model, schedule, guidance=GUIDANCE)
        own.begin(*drawn(model, 1))
        samplers = {FAST: system, OWN.get(self.run, self.run): own}
        steps = {name: sampler.decoder.steps // 2 for name, sampler in samplers.items()}
        return Case(
            variants={
                name: partial(sampler.step, steps[name]) for name, sampler in samplers.items()
            },
            items=1,
            facts={"step": steps[FAST], "of": system.decoder.steps},
        )


@dataclass(frozen=True)
class System:
    """A batch of another system's images, at its published size and setting, decoded or not.

    small: whether all sizes shrink, for a trial run.
    """

    name: str
    batch: int
    decoded: bool = False
    precision: Precision = "bfloat16"
    small: bool = False

    def part(self) -> Part:
        """Return the part by its name."""
        name = f"systems/{self.name}/b{self.batch}{'-decoded' if self.decoded else ''}"
        return Part(name=name, item="images", make=self.make, precision=self.precision)

    def ready(self, device: torch.device) -> tuple[Decoder, Filter, Batch, Any]:
        """Return model and filter, a batch's classes, random numbers and orders, the tokenizer."""
        system = catalog()[self.name]
        kind, steps = KINDS[system.kind], system.schedule_steps
        size: dict[str, Any] = dict(system.description)
        if self.small:
            size |= {key: value for key, value in _SMALL.items() if key in size}
            steps = steps and _SMALL_STEPS
        torch.manual_seed(0)
        with torch.device(device):
            model = kind.build(size, self.name)
        model.to(DTYPES[self.precision]).eval().requires_grad_(False)
        tokenizer = self._tokenizer(system.kind, size, device)
        decoder = kind.decoder(model, system.guidance, steps, tokenizer)
        filter = Filter(temperature=system.temperature, top_k=system.top_k, top_p=system.top_p)
        classes_B = torch.arange(self.batch, device=device) % int(size["classes"])
        uniforms_BT, orders_BT = torch.rand(self.batch, decoder.tokens, device=device), None
        if kind.orders is not None:
            orders_BT = torch.from_numpy(kind.orders(model, steps, 0, np.arange(self.batch)))
        return decoder, filter, (classes_B, uniforms_BT, orders_BT), tokenizer

    def make(self, device: torch.device) -> Case:
        """Make model and decoder ready, and count model calls and operations of an image."""
        decoder, filter, batch, tokenizer = self.ready(device)
        samplers = {FAST: Sampler(decoder, filter=filter)}
        singly = Sampler(decoder, filter=filter, graphs=False)
        if device.type == "cuda":
            samplers[BASELINE] = singly
        facts: dict[str, float] = {"model calls": decoder.steps}
        if self.batch == 1 and not self.decoded:  # Once is enough: counting takes its time.
            with FlopCounterMode(display=False) as counter:
                singly.sample(*batch)
            facts["GFLOP per image"] = counter.get_total_flops() / 1e9

        @torch.inference_mode()
        def sample(sampler: Sampler) -> Tensor:
            codes_BT = sampler.sample(*batch)
            if not self.decoded:
                return codes_BT
            if isinstance(decoder, VARDecoder):
                return to_uint8(tokenizer.decode_sum(decoder.sum_BDhw[: self.batch]))
            side = math.isqrt(decoder.tokens)
            return to_uint8(tokenizer.decode(codes_BT.view(-1, side, side)))

        return Case(
            variants={name: partial(sample, sampler) for name, sampler in samplers.items()},
            items=self.batch,
            facts=facts,
            graphed=device.type == "cuda",
        )

    def _tokenizer(self, kind: str, size: Mapping[str, Any], device: torch.device) -> Any:
        """Return a tokenizer of random weights: VAR's own, LlamaGen's for the others."""
        if kind != "VAR":
            channels = 32 if self.small else Autoencoder().channels
            codes = Autoencoder(codebook_size=size["codes"], channels=channels)
            return random_tokenizer(codes, device)
        config = VARTokenizerConfig(
            codes=size["codes"],
            code_width=size["code_width"],
            scales=size["scales"],
            base_width=32 if self.small else VARTokenizerConfig().base_width,
        )
        return VARTokenizer(config).to(device).eval().requires_grad_(False)
