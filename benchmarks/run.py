"""Measure, print, store, compare."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import torch

from benchmarks.case import Part, Scope
from benchmarks.catalogue import chosen_parts
from benchmarks.curves import Growth, measure_growth
from benchmarks.growth import growth_lines, store_growth
from benchmarks.measure import Results, measure
from benchmarks.stored import losses, read_ratios, store_page, store_rates, store_ratios
from benchmarks.table import table_lines
from pcb.config import Compute
from pcb.runtime.device import pick_device

_TRIES = 3
"""Measurements of a part before a loss is believed: a busy machine can fake one."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, and how.

    names: parts that begin so, all if empty. scope: None takes what suits the device. threads: of
    the CPU; the stage `sample` uses one, and one disturbs a busy machine's timings least.
    """

    names: Sequence[str] = ()
    scope: Scope | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1

    @property
    def rounds(self) -> int:
        """Rounds a part."""
        return 2 if self.scope == "quick" else 7

    @property
    def budget(self) -> float:
        """Seconds a part, after which fewer rounds must do."""
        return 0.0 if self.scope == "quick" else 15.0


def measure_parts(options: Options, *, as_json: bool = False, record: bool = False) -> int:
    """Measure and print, as JSON or as tables; return 0.

    `record` also stores ratios and rates and, of a whole run, the tables.
    """
    parts, device = _prepare(options)
    results = _measure(parts, device, options)
    _print(results, table_lines(results), as_json)
    if record:
        store_ratios(results)
        store_rates(results)
        if not options.names and options.scope is None:
            store_page(results)
    return 0


def measure_growth_curves(options: Options, *, as_json: bool = False, record: bool = False) -> int:
    """Measure how time and memory grow, and print it as JSON or as a table; return 0.

    `record`, of all curves, also stores the table and a picture.
    """
    device = pick_device(Compute(device=options.device))
    growth = measure_growth(options.names, device, options.threads)
    _print(growth, growth_lines(growth), as_json)
    if record and not options.names:
        store_growth(growth)
    return 0


def check(options: Options) -> int:
    """Compare with the stored ratios; return 1 if one is lost in each of several measurements.

    Raises UserError where none are stored for this kind of machine.
    """
    parts, device = _prepare(options)
    stored = read_ratios(device.type)
    parts = [part for part in parts if part.name in stored]
    for attempt in range(1, _TRIES + 1):
        results = _measure(parts, device, options)
        lost = list(losses(stored, results))
        for loss in lost:
            print(f"try {attempt} of {_TRIES}: {loss}", flush=True)
        names = {loss.part for loss in lost}
        parts = [part for part in parts if part.name in names]
        if not parts:
            print("no ratio is lost")
            return 0
    return 1


def _print(results: Results | Growth, lines: Iterable[str], as_json: bool) -> None:
    """Print results as JSON or by their lines."""
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        print("\n".join(lines))


def _prepare(options: Options) -> tuple[list[Part], torch.device]:
    """Choose parts and device: what is asked for, else what the machine can carry."""
    device = pick_device(Compute(device=options.device))
    torch.set_num_threads(options.threads)
    scope = options.scope or ("full" if device.type == "cuda" else "short")
    return chosen_parts(scope, options.names), device


def _measure(parts: Sequence[Part], device: torch.device, options: Options) -> Results:
    def say(name: str) -> None:
        print(f"benchmarks: {name}", file=sys.stderr, flush=True)

    return measure(parts, device, rounds=options.rounds, budget=options.budget, progress=say)
