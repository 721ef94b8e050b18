"""Measurement of a part of the program: variants in turn, beside the machine's best rates."""

import ctypes
import gc
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from msgspec.structs import replace
from torch.autograd.profiler import profile

from benchmarks.machine import (
    Machine,
    Phase,
    Precision,
    convolutions_in,
    measure_machine,
    seconds_of,
    synchronize,
)
from pcb.config import Settings
from pcb.preflight.rates import Kind

Scope = Literal["quick", "short", "full", "growth"]
"""Which parts: `benchmarks.__main__` says what each is for."""
FAST, BASELINE = "fast", "baseline"
"""The variants that most parts have: the program as it is, and without any optimization."""

_MACHINE_EVERY = 5
"""Parts between two measurements of the machine."""
_SHORT, _LONG, _LEAST_ROUNDS = 0.05, 1.0, 3
"""Seconds below which a call is repeated, and above which a CPU needs no second warm-up call."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A part that is ready to run.

    variants: name -> a call that handles `items` items; the first is the program as it is, and
    ratios are those of the others' time to its. phases: its least work, empty where no bound is
    known. width: of the transformer. facts: further numbers about it. compare: how far a result is
    from the first variant's. outputs: name -> what makes the results that are compared, where the
    variants' own do not do. graphed: its memory is in CUDA graphs.
    """

    variants: Mapping[str, Callable[[], Any]]
    items: int
    phases: Sequence[Phase] = ()
    width: int | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    compare: Callable[[Any, Any], dict[str, float]] | None = None
    outputs: Mapping[str, Callable[[], Any]] | None = None
    graphed: bool = False

    def differences(self) -> dict[str, dict[str, float]]:
        """Return how far the results of each other variant are from the first one's."""
        if self.compare is None:
            return {}
        (_, output), *others = (self.outputs or self.variants).items()
        first = output()
        return {name: self.compare(first, other()) for name, other in others}


def single(run: Callable[[], Any], items: int = 1, phases: Sequence[Phase] = ()) -> Case:
    """Return the case of a call alone."""
    return Case(variants={FAST: run}, items=items, phases=phases)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part by name, `area/what/size`: what an item of it is, and how it is made ready.

    kind: what `pcb plan` takes its rate for; None for what no plan counts.
    """

    name: str
    make: Callable[[torch.device], Case]
    item: str = "images"
    precision: Precision = "float32"
    kind: Kind | None = None


class Measured(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part, measured; all but `seconds` and `differences` is about its first variant.

    seconds: variant -> those of a call, round by round. differences: variant -> from the first.
    bound: seconds that a call takes at least, by the machine's own rates; None where no bound is
    known. operators: fraction of the time inside PyTorch's operators, None without a bound or on a
    GPU. memory: bytes at the peak, as `peak_memory` counts them under the name `held`. failure: why
    there is nothing else.
    """

    name: str
    item: str
    precision: Precision
    kind: Kind | None = None
    width: int | None = None
    items: int = 0
    seconds: dict[str, tuple[float, ...]] = {}
    differences: dict[str, dict[str, float]] = {}
    phases: tuple[Phase, ...] = ()
    bound: float | None = None
    operators: float | None = None
    memory: int | None = None
    held: str = ""
    facts: dict[str, float] = {}
    failure: str | None = None

    @property
    def first(self) -> tuple[float, ...]:
        """Seconds of the program as it is."""
        return next(iter(self.seconds.values()))

    @property
    def median(self) -> float:
        """Seconds of a call of the program as it is."""
        return median(self.first)

    @property
    def flops(self) -> float:
        """Operations that a call takes at least, 0 where they are not known."""
        return sum(phase.flops for phase in self.phases)

    @property
    def fraction(self) -> float | None:
        """Bound over median: 1 is as fast as the machine allows."""
        return None if self.bound is None else self.bound / self.median

    def ratio(self, variant: str) -> float | None:
        """Return the median, over rounds, of a variant's time as a multiple of the first one's."""
        if variant not in self.seconds:
            return None
        return median(a / b for a, b in zip(self.seconds[variant], self.first, strict=True))


class Results(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of the harness: the machine, and its parts."""

    machine: Machine
    parts: tuple[Measured, ...]


def measure(
    parts: Sequence[Part],
    device: torch.device,
    rounds: int,
    budget: float,
    keep: Callable[[Results], object] = lambda results: None,
    *,
    apart: bool = False,
) -> Results:
    """Measure parts one after the other, and the machine before, between and after them.

    `apart`: each in a process of its own. Each gets `rounds` rounds, three if they take longer than
    `budget` seconds. `keep` is called after every part with all that is known. The machine's rates
    are the best that were seen: what it can do shows when nobody disturbs it.
    """
    precisions = sorted({part.precision for part in parts} | {"float32"})
    results = Results(machine=measure_machine(device, precisions), parts=())
    one = _measure_apart if apart else measure_part
    for number, part in enumerate(parts, 1):
        print(f"benchmarks: {part.name}", file=sys.stderr, flush=True)
        found = (*results.parts, one(part, device, rounds, budget))
        machine = results.machine
        if number % _MACHINE_EVERY == 0 or number == len(parts):
            machine = machine.best(measure_machine(device, precisions))
        bounded = [replace(p, bound=machine.bound(p.phases, p.precision) or None) for p in found]
        results = Results(machine=machine, parts=tuple(bounded))
        keep(results)
    return results


def _measure_apart(part: Part, device: torch.device, rounds: int, budget: float) -> Measured:
    """Measure a part in a new process: what one has held before, it may seem to hold still."""
    threads = (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, threads) as fresh:
        return fresh.submit(measure_part, part, device, rounds, budget).result()


def measure_part(part: Part, device: torch.device, rounds: int, budget: float) -> Measured:
    """Measure all of a part but its bound. A part that fails says so and costs no other part."""
    found = Measured(name=part.name, item=part.item, precision=part.precision, kind=part.kind)
    try:
        with convolutions_in(part.precision):
            case = part.make(device)
            run = next(iter(case.variants.values()))
            run()
            held, memory = peak_memory(run, device, graphed=case.graphed)
            found = replace(
                found,
                width=case.width,
                items=case.items,
                seconds=interleaved(case.variants, device, rounds, budget),
                differences=case.differences(),
                phases=tuple(case.phases),
                operators=operator_fraction(run, device) if case.phases else None,
                memory=memory,
                held=held,
                facts=dict(case.facts),
            )
            del case, run
    except Exception as error:  # Running out of a GPU's memory among them.
        reason = (str(error).splitlines() or [""])[0]
        found = replace(found, failure=f"{type(error).__name__}: {reason}"[:200])
    # Before the next part's is counted, memory goes back as far as its allocators can be told to.
    gc.collect()
    torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # Only glibc has it.
        ctypes.CDLL(None).malloc_trim(0)
    return found


def interleaved(
    variants: Mapping[str, Callable[[], object]], device: torch.device, rounds: int, budget: float
) -> dict[str, tuple[float, ...]]:
    """Return the seconds of every variant, one entry per round, after an unmeasured call of each.

    A round runs all variants in turn, so that whatever slows the machine down slows all of them.
    Once `budget` seconds are spent, three rounds must do.
    """
    started, calls = time.perf_counter(), []
    for run in variants.values():
        seconds = seconds_of(run, device)
        if seconds < _LONG or device.type == "cuda":
            seconds = seconds_of(run, device)
        calls.append((run, device, math.ceil(_SHORT / max(seconds, 1e-7))))
    found: list[list[float]] = []
    while len(found) < rounds:
        if len(found) >= _LEAST_ROUNDS and time.perf_counter() - started > budget:
            break
        found.append([seconds_of(*call) for call in calls])
    return dict(zip(variants, zip(*found, strict=True), strict=True))


def peak_memory(
    run: Callable[[], object], device: torch.device, *, graphed: bool = False
) -> tuple[str, int | None]:
    """Return the most bytes held during a call, of everything in this process, and their name.

    On a GPU what torch had `allocated`; of CUDA graphs, whose replays allocate nothing, what it had
    `reserved`. On a CPU the `resident` set, Python and libraries too; None where the system cannot
    tell (Linux can).
    """
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        synchronize(device)
        if graphed:
            return "reserved", torch.cuda.max_memory_reserved(device)
        return "allocated", torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        run()
        lines = map(str.split, Path("/proc/self/status").read_text().splitlines())
        return "resident", next(1024 * int(line[1]) for line in lines if line[0] == "VmHWM:")
    return "resident", None


def operator_fraction(run: Callable[[], object], device: torch.device) -> float | None:
    """Return the fraction of a call's time inside PyTorch's operators; the rest is Python.

    The profiler's own time counts as the rest. None on a GPU, where a call returns before its work.
    """
    if device.type != "cpu":
        return None
    # Its library would log that there is no GPU; it reads this when it is first used.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile() as recorded:
        seconds = seconds_of(run, device)
    inside = sum(event.self_cpu_time_total for event in recorded.key_averages())
    return inside / 1e6 / seconds
