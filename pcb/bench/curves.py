"""How time and memory grow: each point of a curve measured in a process of its own."""

import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from pcb.atomic import write_atomic
from pcb.bench.case import Part
from pcb.bench.machine import Machine, measure_machine
from pcb.bench.measure import Measured, measure_case
from pcb.bench.scaling import Curve, curves
from pcb.bench.stored import END, begin_of
from pcb.bench.table import aligned, machine_lines, time_text
from pcb.device import forbid_tf32
from pcb.errors import UserError
from pcb.marked import put_between
from pcb.report.style import PALETTE, SETTINGS, figure_bytes, panel_grid
from pcb.settings import Settings

PAGE = Path("docs") / "scale.md"
PICTURE = Path("docs") / "images" / "scale.png"
COMMAND = "pcb bench --growth --record"
_ROUNDS, _BUDGET = 5, 20.0
_MEBI = 2**20


class Grown(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured curve: `points` are the numbers of things, `measured` what they took."""

    name: str
    title: str
    against: str
    points: tuple[int, ...]
    measured: tuple[Measured, ...]

    @property
    def orders(self) -> tuple[float | None, ...]:
        """How time grows from the point before: 1 as the number itself, 2 as its square."""
        steps = pairwise(zip(self.points, self.measured, strict=True))
        found = (math.log(b.median / a.median) / math.log(n / m) for (m, a), (n, b) in steps)
        return (None, *found)


class Growth(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine and its curves."""

    machine: Machine
    curves: tuple[Grown, ...]


def measure_growth(names: Sequence[str], device: torch.device, threads: int) -> Growth:
    """Measure the curves of these names, all if there are none.

    Raises UserError for a name that no curve has.
    """
    known = {curve.name: curve for curve in curves() if device.type == "cpu" or not curve.cpu_alone}
    unknown = set(names) - set(known)
    if unknown:
        there = ", ".join(known)
        raise UserError(f"bench --growth {min(unknown)}: no such curve; there are {there}")
    torch.set_num_threads(threads)
    return Growth(
        machine=measure_machine(device, {"float32"}),
        curves=tuple(
            _grown(curve, device, threads)
            for name, curve in known.items()
            if not names or name in names
        ),
    )


def _grown(curve: Curve, device: torch.device, threads: int) -> Grown:
    # What a process has held once it may keep, so the next point would seem to hold it too.
    fresh = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)
    found = []
    with fresh as pool:
        for number in curve.points:
            print(f"pcb bench: {curve.name}, {number} {curve.against}", file=sys.stderr, flush=True)
            found.append(pool.submit(measure_point, curve.name, number, device, threads).result())
    return Grown(
        name=curve.name,
        title=curve.title,
        against=curve.against,
        points=tuple(curve.points),
        measured=tuple(found),
    )


def measure_point(name: str, number: int, device: torch.device, threads: int) -> Measured:
    """Measure one point of a curve in this process."""
    torch.set_num_threads(threads)
    forbid_tf32()
    make = next(curve for curve in curves() if curve.name == name).points[number]
    part = Part(name=f"{name}/{number}", item="calls", make=make)
    return measure_case(part, make(device), device, _ROUNDS, _BUDGET)


def growth_lines(growth: Growth) -> Iterator[str]:
    """Yield the machine, and a table with a row for each point."""
    yield from machine_lines(growth.machine)
    yield ""
    header = ("curve", "against", "number", "median of a call", "grows as", "peak memory")
    yield from aligned([header, *(row for curve in growth.curves for row in _rows(curve))])


def _rows(curve: Grown) -> Iterator[tuple[str, ...]]:
    for number, part, order in zip(curve.points, curve.measured, curve.orders, strict=True):
        yield (
            curve.title,
            curve.against,
            f"{number:,}",
            time_text(part.median),
            "-" if order is None else f"n^{order:.2f}",
            "-" if part.memory is None else f"{part.memory / _MEBI:,.0f} MiB",
        )


@matplotlib.rc_context(SETTINGS)
def growth_figure(growth: Growth) -> Figure:
    """Draw time and peak memory of every curve, each point with its value.

    Beside time a dotted line grows as the number itself, or falls as the ranks' inverse.
    """
    figure, panels = panel_grid(2 * len(growth.curves), 2, 8.0, 2.3)
    for curve, time, memory in zip(growth.curves, panels[::2], panels[1::2], strict=True):
        seconds = [part.median for part in curve.measured]
        _panel(time, curve, seconds, list(map(time_text, seconds)), PALETTE[0])
        power = -1 if curve.against == "ranks" else 1
        ideal = [seconds[0] * (number / curve.points[0]) ** power for number in curve.points]
        time.plot(curve.points, ideal, ":", color=PALETTE[0], alpha=0.6, linewidth=1.0)
        time.set_ylabel("time of a call")
        held = [part.memory or math.nan for part in curve.measured]
        _panel(memory, curve, held, [f"{value / 2**30:.2g} GiB" for value in held], PALETTE[1])
        memory.set_ylabel("peak memory")
    return figure


def _panel(
    panel: Axes, curve: Grown, values: Sequence[float], texts: Sequence[str], colour: str
) -> None:
    panel.plot(curve.points, values, "o-", color=colour)
    for number, value, text in zip(curve.points, values, texts, strict=True):
        panel.annotate(text, (number, value), (0, 7), textcoords="offset points", ha="center")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_ylim(min(values) / 2, max(values) * 3)
    panel.margins(x=0.12)
    panel.set_xticks(curve.points)
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(axis="y", which="both", labelleft=False)
    panel.set_xlabel(curve.against)
    panel.set_title(curve.title)


def store_growth(growth: Growth) -> None:
    """Put the table of all curves into the page about scale, and their picture beside it."""
    lines = growth_lines(growth)
    put_between(PAGE, begin_of(growth.machine.kind, COMMAND), END, "\n".join(lines))
    write_atomic(PICTURE, figure_bytes(growth_figure(growth), "png"))
