"""One part, measured: times, memory, the share of the bound, and what optimisations change."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch

from benchmarks.case import Case, Part
from benchmarks.machine import Machine, measure_machine
from benchmarks.timing import (
    give_back_memory,
    interleaved,
    operator_share,
    peak_memory,
    quartiles,
    ratio,
)
from pcb.config import Settings
from pcb.preflight.rates import Kind


class Variant(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variant: seconds of a call, round by round, and how its time compares with the first's.

    ratio: median over rounds of (its seconds / the first variant's). differences: from the first.
    """

    name: str
    seconds: tuple[float, ...]
    ratio: float
    differences: dict[str, float]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the seconds."""
        return quartiles(self.seconds)


class Measured(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part; the first variant is the program as it is, and the rest is about that one.

    flops: operations a call takes at least. bound: seconds that it takes at least, by the machine's
    own rates; both None where no bound is known. operators: share of the time inside PyTorch's
    operators, None where no bound is known or on a GPU. memory: bytes at the peak, as
    `benchmarks.timing.peak_memory` counts them.
    """

    name: str
    kind: Kind | None
    item: str
    items: int
    precision: str
    settings: dict[str, Any]
    flops: float | None
    bound: float | None
    operators: float | None
    memory: int | None
    variants: tuple[Variant, ...]

    @property
    def median(self) -> float:
        """Seconds of a call of the program as it is."""
        return self.variants[0].quartiles[1]

    @property
    def share(self) -> float | None:
        """Share of the bound that is reached: 1 is as fast as the machine allows."""
        return None if self.bound is None else self.bound / self.median

    def ratio(self, variant: str) -> float | None:
        """Return how many times the first variant's time another takes, None without that one."""
        return next((v.ratio for v in self.variants if v.name == variant), None)


class Results(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of the harness: the machine, and its parts."""

    machine: Machine
    parts: tuple[Measured, ...]


def measure(
    parts: Sequence[Part],
    device: torch.device,
    *,
    rounds: int,
    budget: float,
    progress: Callable[[str], None] = lambda name: None,
) -> Results:
    """Measure parts one after the other, and the machine before, between and after them.

    Each gets `rounds` rounds, three if they take longer than `budget` seconds. `progress` is told a
    part's name before it begins. The machine's rates are the best that were seen: what it can do
    shows when nobody disturbs it.
    """
    precisions = {part.precision for part in parts} | {"float32"}
    machine, found, phases = measure_machine(device, precisions), [], []
    for part in parts:
        progress(part.name)
        case = part.make(device)
        phases.append(case.phases)
        found.append(measure_case(part, case, device, rounds, budget))
        del case
        give_back_memory()  # Before the next one's is counted.
        machine = machine.best(measure_machine(device, precisions))
    bounds = [machine.bound(of, part.precision) for of, part in zip(phases, parts, strict=True)]
    measured = zip(found, bounds, strict=True)
    return Results(
        machine=machine,
        parts=tuple(msgspec.structs.replace(part, bound=bound or None) for part, bound in measured),
    )


def measure_case(
    part: Part, case: Case, device: torch.device, rounds: int, budget: float
) -> Measured:
    """Measure a part that was made ready: all but the bound."""
    times = interleaved(case, device, rounds, budget)
    first, run = next(iter(case.variants.items()))
    differences = case.differences() if case.differences else {}
    return Measured(
        name=part.name,
        kind=part.kind,
        item=part.item,
        items=case.items,
        precision=part.precision,
        settings=dict(case.settings),
        flops=sum(phase.flops for phase in case.phases) or None,
        bound=None,
        operators=operator_share(run, device) if case.phases else None,
        memory=peak_memory(run, device),
        variants=tuple(
            Variant(
                name=name,
                seconds=seconds,
                ratio=ratio(seconds, times[first]),
                differences=differences.get(name, {}),
            )
            for name, seconds in times.items()
        ),
    )
