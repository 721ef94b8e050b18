"""Recorded runs that take the likeliest codes, computed anew: codes, and logits of every step.

Letters: B images, T tokens of an image, L positions, C width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.published.guidance import OFF, Constant, Guidance
from pcb.sample.decoder import Decoder, forced_logits
from pcb.sample.filter import GREEDY
from pcb.sample.sampler import sample_with_logits
from pcb.systems.parity.recording import CONFIG, Recording

Quantities: TypeAlias = Iterator[tuple[str, Tensor]]
Schedules: TypeAlias = Mapping[str, Callable[[Mapping[str, float]], Guidance]]
"""Guidance by the start of its kind's name, made of the numbers that a run gives with it."""
_HALVES = (("cond", 1.0), ("uncond", 0.0))
"""A scale of 1 leaves the logits with the class alone, one of 0 those without."""


def greedy(
    make: Callable[[Guidance], Decoder],
    guidance: Guidance,
    prefix: str,
    labels_B: Tensor,
    orders_BT: Tensor | None = None,
) -> Quantities:
    """Yield a run's codes and, by step, its logits: guided, with the class, and without.

    `make` returns a decoder with some guidance.
    """
    decoder = make(guidance)
    numbers = torch.zeros(len(labels_B), decoder.tokens)
    codes_BT, guided = sample_with_logits(decoder, labels_B, numbers, orders_BT, GREEDY)
    yield f"{prefix}_codes", codes_BT
    yield from _by_step(prefix, "guided", guided)
    sizes = [logits_BnV.shape[1] for logits_BnV in guided]
    for half, scale in _HALVES:
        logits_BTV = forced_logits(make(Constant(scale)), labels_B, codes_BT, orders_BT)
        yield from _by_step(prefix, half, logits_BTV.split(sizes, dim=1))


def _by_step(prefix: str, name: str, logits: Iterable[Tensor]) -> Quantities:
    for step, logits_BnV in enumerate(logits):
        yield f"{prefix}_step{step}_logits_{name}", logits_BnV


def constant(numbers: Mapping[str, float]) -> Guidance:
    """Return the guidance of one scale, as all systems' runs describe it."""
    return Constant(numbers["scale"])


def guidance_of(run: Any, schedules: Schedules, recording: Recording) -> Guidance:
    """Return the guidance that a run describes: `off`, or one of the schedules.

    Raises UserError that names the file.
    """
    match run:
        case {"guidance": "off" | {"kind": "off"}}:
            return OFF
        case {"guidance": {"kind": str() as kind, **given}}:
            numbers = {
                str(name): float(x) for name, x in given.items() if isinstance(x, int | float)
            }
            # The first name that fits counts, so that longer names come before shorter.
            for name, schedule in schedules.items():
                if kind.startswith(name):
                    with suppress(KeyError):
                        return schedule(numbers)
    raise UserError(f"{recording.folder / CONFIG}: the guidance of the run {run!r} is not known")


class Kept:
    """What blocks hand on, kept while the context lasts: name -> (B, L, C)."""

    def __init__(self, blocks: dict[str, nn.Module]) -> None:
        self.hidden: dict[str, Tensor] = {}
        self._blocks = blocks

    def __enter__(self) -> dict[str, Tensor]:
        self._hooks = [
            block.register_forward_hook(self._keeping(name)) for name, block in self._blocks.items()
        ]
        return self.hidden

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keeping(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(_block: nn.Module, _inputs: Any, x_BLC: Tensor) -> None:
            self.hidden[name] = x_BLC

        return keep
