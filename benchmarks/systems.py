"""Parts of drawing with the other systems of the table, at their published sizes and settings.

Weights are random; on a GPU every step is a CUDA graph.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import Precision
from benchmarks.measure import BASELINE, FAST, Case, Part, Scope
from benchmarks.stages import random_tokenizer
from pcb.config import Autoencoder
from pcb.data.arrays import to_uint8
from pcb.runtime.device import DTYPES
from pcb.sample.graphs import StepGraphs

BATCHES = (1, 64, 256)
"""What people wait for, what others print, and what a GPU is full with."""
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
    """Yield one image and larger batches of every system, decoded or not; on a GPU alone."""
    if scope != "full" or find_spec("pcb.systems") is None:
        return
    from pcb.systems.catalogue import CATALOGUE

    for name in CATALOGUE:
        for batch in BATCHES:
            for decoded in (False, True):
                yield System(name, batch, decoded=decoded).part()


@dataclass(frozen=True)
class System:
    """A batch of one system's images; `small` shrinks all sizes for a trial run."""

    name: str
    batch: int
    decoded: bool = False
    precision: Precision = "bfloat16"
    small: bool = False

    def part(self) -> Part:
        """Return the part by its name."""
        name = f"systems/{self.name}/b{self.batch}{'-decoded' if self.decoded else ''}"
        return Part(name=name, item="images", make=self.make, precision=self.precision)

    def make(self, device: torch.device) -> Case:
        """Make model and decoder ready, and count model calls and operations of an image."""
        from pcb.systems.base import decode
        from pcb.systems.catalogue import CATALOGUE
        from pcb.systems.filter import Filter
        from pcb.systems.kinds import KINDS

        system = CATALOGUE[self.name]
        kind, steps = KINDS[system.kind], system.schedule_steps
        description = dict(system.description)
        if self.small:
            description |= {key: value for key, value in _SMALL.items() if key in description}
            steps = steps and _SMALL_STEPS
        torch.manual_seed(0)
        with torch.device(device):
            model = kind.build(description, self.name)
        model.to(DTYPES[self.precision]).eval().requires_grad_(False)
        tokenizer = _tokenizer(system.kind, description, device)
        decoder = kind.decoder(model, system.guidance, steps, tokenizer)
        filter = Filter(temperature=system.temperature, top_k=system.top_k, top_p=system.top_p)
        images = np.arange(self.batch)
        orders_BT = None
        if kind.orders is not None:
            orders_BT = torch.from_numpy(kind.orders(model, steps, 0, images)).to(device)
        batch = (
            torch.arange(self.batch, device=device) % int(description["classes"]),
            torch.rand(self.batch, decoder.tokens, device=device),
            orders_BT,
        )
        singly = partial(decode, decoder, *batch, filter)
        with FlopCounterMode(display=False) as counter:
            singly()
        ways: dict[str, Callable[[], Tensor]] = {FAST: singly}
        if device.type == "cuda":
            ways = {FAST: _by_graphs(decoder, *batch, filter), BASELINE: singly}
        pixels = partial(_pixels, tokenizer, decoder) if self.decoded else lambda codes_BT: codes_BT
        return Case(
            variants={name: partial(_both, draw, pixels) for name, draw in ways.items()},
            items=self.batch,
            facts={
                "model calls": decoder.steps,
                "GFLOP per image": counter.get_total_flops() / self.batch / 1e9,
            },
            graphed=device.type == "cuda",
        )


def _by_graphs(
    decoder: Any, labels_B: Tensor, uniforms_BT: Tensor, orders_BT: Tensor | None, filter: Any
) -> Callable[[], Tensor]:
    """Return what draws the batch with a CUDA graph for every step."""
    from pcb.systems.base import draw_block

    graphs: StepGraphs[object] = StepGraphs(uniforms_BT.device)
    codes_BT = torch.zeros_like(uniforms_BT, dtype=torch.int64)

    def take(step: int) -> object:
        return draw_block(decoder, step, uniforms_BT, codes_BT, filter)

    @torch.inference_mode()
    def draw() -> Tensor:
        decoder.begin(labels_B, orders_BT)
        for step in range(decoder.steps):
            graphs.run(step, take)
        return codes_BT

    return draw


def _tokenizer(kind: str, description: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Return a tokenizer of random weights: VAR's own, LlamaGen's for the others."""
    if kind != "VAR":
        return random_tokenizer(Autoencoder(codebook_size=int(description["codes"])), device)
    from pcb.systems.var_quantizer import VARTokenizerConfig
    from pcb.systems.var_tokenizer import VARTokenizer

    config = VARTokenizerConfig(
        codes=int(description["codes"]),
        code_width=int(description["code_width"]),
        scales=tuple(description["scales"]),
    )
    return VARTokenizer(config).to(device).eval().requires_grad_(False)


@torch.inference_mode()
def _pixels(tokenizer: Any, decoder: Any, codes_BT: Tensor) -> Tensor:
    """Return the bytes of images at the size that is decoded, before any resizing."""
    if hasattr(decoder, "sum_BDhw"):
        return to_uint8(tokenizer.decode_sum(decoder.sum_BDhw))
    side = round(codes_BT.shape[1] ** 0.5)
    return to_uint8(tokenizer.decode(codes_BT.view(-1, side, side)))


def _both(draw: Callable[[], Tensor], pixels: Callable[[Tensor], Tensor]) -> Tensor:
    return pixels(draw())
