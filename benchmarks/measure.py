"""Measurement of a part of the program: variants in turn, beside its roofline bound."""

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

from benchmarks.machine import Machine, Phase, convolutions_in, measure_machine, seconds_of
from pcb.config import Settings
from pcb.preflight.rates import Kind

CPU = torch.device("cpu")
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""Of tensors; `tf32` rounds those that float32 convolutions multiply."""
FAST, BASELINE = "fast", "baseline"
"""The variant that every part has, the program as it is, and the one without any optimization."""

_MACHINE_EVERY = 5
"""Parts between two measurements of the machine."""
_ROUNDS, _LEAST_ROUNDS, _BUDGET, _SHORT = 7, 3, 15.0, 0.05
"""Rounds of a part, seconds after which fewer must do, and those below which a call is repeated."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A part that is ready to run.

    variants: name -> a call that handles `items` items, `FAST` the first. phases: what the roofline
    bound is made of, empty where none is known. width: of the transformer. facts: further numbers.
    compare: how far a result is from that of `FAST`. outputs: name -> what makes the results that
    are compared, where the variants' own do not do. graphed: its memory is in CUDA graphs.
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
        """Return how far the results of each other variant are from those of `FAST`."""
        if self.compare is None:
            return {}
        outputs = self.outputs or self.variants
        first = outputs[FAST]()
        return {name: self.compare(first, outputs[name]()) for name in outputs if name != FAST}


def single(run: Callable[[], Any], items: int = 1, phases: Sequence[Phase] = ()) -> Case:
    """Return the case of a call alone."""
    return Case(variants={FAST: run}, items=items, phases=phases)


@dataclass(frozen=True)
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
    """One part, measured; all but `seconds` and `differences` is about the variant `FAST`.

    seconds: variant -> those of a call, round by round. differences: variant -> from `FAST`.
    bound: roofline bound of a call, in seconds, by the machine's own rates; None where none is
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
    def median(self) -> float:
        """Seconds of a call of the program as it is."""
        return median(self.seconds[FAST])

    @property
    def flops(self) -> float:
        """Operations of a call by the method's definition, 0 where they are not known."""
        return sum(phase.flops for phase in self.phases)

    @property
    def fraction(self) -> float | None:
        """Fraction of the roofline bound that is reached: 1 is as fast as the machine allows."""
        return None if self.bound is None else self.bound / self.median

    def ratio(self, variant: str) -> float | None:
        """Return the median, over rounds, of a variant's time as a multiple of that of `FAST`."""
        if variant not in self.seconds:
            return None
        rounds = zip(self.seconds[variant], self.seconds[FAST], strict=True)
        return median(own / fast for own, fast in rounds)


class Results(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of the harness: the machine, and its parts."""

    machine: Machine
    parts: tuple[Measured, ...]


def measure(
    parts: Sequence[Part],
    device: torch.device,
    budget: float = _BUDGET,
    *,
    keep: Callable[[Results], object] = lambda results: None,
    apart: bool = False,
) -> Results:
    """Measure parts, and the machine before, between and after them: its best rates count.

    budget: of each, as `interleaved` takes it. keep: is called after every part with all that is
    known. apart: each in a process of its own.
    """
    precisions = sorted({part.precision for part in parts} | {"float32"})
    results = Results(machine=measure_machine(device, precisions), parts=())
    one = _measure_apart if apart else measure_part
    for number, part in enumerate(parts, 1):
        print(f"benchmarks: {part.name}", file=sys.stderr, flush=True)
        found = (*results.parts, one(part, device, budget))
        machine = results.machine
        if number % _MACHINE_EVERY == 0 or number == len(parts):
            machine = machine.best(measure_machine(device, precisions))
        bounded = [replace(p, bound=machine.bound(p.phases, p.precision) or None) for p in found]
        results = Results(machine=machine, parts=tuple(bounded))
        keep(results)
    return results


def _measure_apart(part: Part, device: torch.device, budget: float) -> Measured:
    """Measure a part in a new process: what one has held before, it may seem to hold still."""
    threads = (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, threads) as fresh:
        return fresh.submit(measure_part, part, device, budget).result()


def measure_part(part: Part, device: torch.device, budget: float = _BUDGET) -> Measured:
    """Measure a part, all but its roofline bound. One that fails says so and costs no other."""
    found = Measured(name=part.name, item=part.item, precision=part.precision, kind=part.kind)
    try:
        with convolutions_in(part.precision):
            case = part.make(device)
            run = case.variants[FAST]
            run()
            held, memory = peak_memory(run, device, graphed=case.graphed)
            found = replace(
                found,
                width=case.width,
                items=case.items,
                seconds=interleaved(case.variants, device, budget),
                differences=case.differences(),
                phases=tuple(case.phases),
                operators=operator_fraction(run, device) if case.phases else None,
                memory=memory,
                held=held,
                facts=dict(case.facts),
            )
            del case, run
    except Exception as error:  # Running out of a GPU's memory among them.
        found = replace(found, failure=f"{type(error).__name__}: {error}".splitlines()[0][:200])
    # Before the next part's is counted, memory goes back as far as its allocators can be told to.
    gc.collect()
    torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # Only glibc has it.
        ctypes.CDLL(None).malloc_trim(0)
    return found


def interleaved(
    variants: Mapping[str, Callable[[], object]], device: torch.device, budget: float
) -> dict[str, tuple[float, ...]]:
    """Return the seconds of every variant in seven rounds, or three where `budget` is spent.

    A round runs all variants in turn, so that whatever slows the machine down slows all of them.
    """
    started, calls = time.perf_counter(), []
    for run in variants.values():
        run()
        calls.append((run, device, math.ceil(_SHORT / max(seconds_of(run, device), 1e-7))))
    found: list[list[float]] = []
    while len(found) < (_ROUNDS if time.perf_counter() - started < budget else _LEAST_ROUNDS):
        found.append([seconds_of(*call) for call in calls])
    return dict(zip(variants, zip(*found, strict=True), strict=True))


def peak_memory(
    run: Callable[[], object], device: torch.device, *, graphed: bool = False
) -> tuple[str, int | None]:
    """Return the most bytes held during a call, of everything in this process, and their name.

    On a GPU what torch had `allocated`, or `reserved` for CUDA graphs, whose replays allocate
    nothing; on a CPU the `resident` set, Python and libraries too, None where it is not known.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        seconds_of(run, device)
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
    return float(recorded.self_cpu_time_total) / 1e6 / seconds
