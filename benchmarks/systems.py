"""All systems of Table 1 with random weights: on a GPU one image and larger batches.

On a CPU one step of each beside one of the paper's own model.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import BASELINE, FAST, Case, Part, Precision, Results
from benchmarks.pages import stored_of
from benchmarks.sampling import GUIDANCE, RUNS, Sampling, random_batch, random_model
from benchmarks.stages import random_tokenizer
from pcb.config import Autoencoder, Speed
from pcb.config.loader import load_preset
from pcb.data.arrays import to_uint8
from pcb.order.schedule import schedule_from_blocks
from pcb.published.systems import catalog
from pcb.report.times import OWN as OWN_BY_RATIO
from pcb.report.times import TIMES
from pcb.runtime.device import DTYPES
from pcb.sample.pyramid import sampler_for
from pcb.sample.sampler import Sampler
from pcb.systems.kinds import KINDS, filter_of
from pcb.systems.var_decoding import VARDecoder
from pcb.systems.var_quantizer import VARTokenizerConfig
from pcb.systems.var_tokenizer import VARTokenizer

OWN = {f"L-{ratio}x": name for ratio, name in OWN_BY_RATIO.items()}
"""Runs of the paper's own model among the systems of Table 1."""


def parts(device: torch.device) -> Iterator[Part]:
    """Yield every system's batches, decoded or not; on a CPU a step of each, as a ratio."""
    if device.type == "cpu":
        yield from (SystemStep(name).part() for name in catalog())
        return
    for batch in (1, 64, 256):
        for decoded in (False, True):
            for run in OWN:
                yield OwnSystem(run, batch, GUIDANCE, "bfloat16", decoded=decoded).part()
            for name in catalog():
                yield System(name, batch, decoded).part()


@dataclass(frozen=True)
class OwnSystem(Sampling):
    """A batch of the paper's own model among the systems: the program as it is, alone."""

    def part(self) -> Part:
        """Return the part by its name."""
        name = f"systems/{OWN[self.run]}/b{self.batch}{'-decoded' if self.decoded else ''}"
        return Part(name=name, make=self.make, precision=self.precision)

    def speeds(self, device: torch.device) -> dict[str, Speed]:
        """Return all optimizations, no other variant."""
        return {FAST: Speed()}

    def make(self, device: torch.device) -> Case:
        """Make model and sampler ready, and count model calls."""
        preset, model, blocks = RUNS[self.run]
        schedule = schedule_from_blocks(load_preset(preset).sizes(model), blocks)
        facts = {"model calls": schedule.steps}
        return replace(super().make(device), facts=facts, compare=None)


@dataclass(frozen=True)
class SystemStep:
    """The middle step of another system, one image, beside that of the paper's own model."""

    name: str
    run: str = "L-2x"
    small: Mapping[str, Any] = field(default_factory=dict)

    def part(self) -> Part:
        """Return the part by its name."""
        return Part(name=f"systems/{self.name}/b1/step", make=self.make, item="steps")

    def make(self, device: torch.device) -> Case:
        """Make both models ready."""
        sampler, batch, _ = System(self.name, 1, False, "float32", self.small).ready(device)
        sampler.begin(*batch)
        _, model, schedule = random_model(self.run, device)
        own = sampler_for(model, schedule, guidance=GUIDANCE)
        own.begin(*random_batch(model, 1))
        samplers = {FAST: sampler, OWN.get(self.run, self.run): own}
        return Case(
            variants={
                name: partial(one.step, one.decoder.steps // 2) for name, one in samplers.items()
            },
            items=1,
            facts={"step": sampler.decoder.steps // 2, "of": sampler.decoder.steps},
        )


Batch = tuple[Tensor, Tensor, Tensor | None]
"""Classes, random numbers and orders of a batch of images."""


@dataclass(frozen=True)
class System:
    """A batch of another system's images, at its published size and setting, decoded or not.

    small: what replaces its published size, steps and width of the tokenizer, for a trial run.
    """

    name: str
    batch: int
    decoded: bool = False
    precision: Precision = "bfloat16"
    small: Mapping[str, Any] = field(default_factory=dict)

    def part(self) -> Part:
        """Return the part by its name."""
        name = f"systems/{self.name}/b{self.batch}{'-decoded' if self.decoded else ''}"
        return Part(name=name, make=self.make, precision=self.precision)

    def ready(self, device: torch.device) -> tuple[Sampler, Batch, Any]:
        """Return a sampler without graphs, what a batch is sampled from, and the tokenizer."""
        system = catalog()[self.name]
        kind, steps = KINDS[system.kind], system.schedule_steps
        steps = steps and self.small.get("steps", steps)
        size: dict[str, Any] = {
            key: self.small.get(key, value) for key, value in system.description.items()
        }
        torch.manual_seed(0)
        with torch.device(device):
            model = kind.build(size, self.name)
        model.to(DTYPES[self.precision]).eval().requires_grad_(False)
        tokenizer = self._tokenizer(system.kind, size, device)
        decoder = kind.decoder(model, system.guidance, steps, tokenizer)
        classes_B = torch.arange(self.batch, device=device) % int(size["classes"])
        uniforms_BT, orders_BT = torch.rand(self.batch, decoder.tokens, device=device), None
        if kind.orders is not None:
            orders_BT = torch.from_numpy(kind.orders(model, steps, 0, np.arange(self.batch)))
        sampler = Sampler(decoder, filter=filter_of(system), graphs=False)
        return sampler, (classes_B, uniforms_BT, orders_BT), tokenizer

    def make(self, device: torch.device) -> Case:
        """Make model and decoder ready, and count model calls and operations of an image."""
        system, (singly, batch, tokenizer) = catalog()[self.name], self.ready(device)
        decoder = singly.decoder
        samplers = {FAST: Sampler(decoder, filter=filter_of(system))}
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
        width = self.small.get("channels")
        if kind != "VAR":
            channels = width or Autoencoder().channels
            codes = Autoencoder(codebook_size=size["codes"], channels=channels)
            return random_tokenizer(codes, device)
        config = VARTokenizerConfig(
            codes=size["codes"],
            code_width=size["code_width"],
            scales=size["scales"],
            base_width=width or VARTokenizerConfig().base_width,
        )
        return VARTokenizer(config).to(device).eval().requires_grad_(False)


def store_systems(results: Results, path: Path = TIMES) -> None:
    """Put the times of whole systems on a GPU among the stored ones, for the report's Table 1."""
    machine = results.machine
    # A third part of a name is a step.
    found = [(p, p.name.split("/")[1:]) for p in results.parts if p.name.startswith("systems/")]
    whole = [(p, name) for p, name in found if len(name) == 2 and not p.failure]
    if machine.kind != "cuda" or not whole:
        return
    with stored_of(path, machine.name) as own:
        for part, (system, batch) in whole:
            own.setdefault(system, {})[batch] = {
                "ms": round(1000 * part.median, 4),
                "images": part.items,
                "precision": part.precision,
                "memory_mib": None if part.memory is None else round(part.memory / 2**20),
                "torch": machine.versions["torch"],
                **{what: round(number, 1) for what, number in part.facts.items()},
            }
