"""Curves of time and memory as people see them: a table and a picture, on a page."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from benchmarks.curves import Grown, Growth
from benchmarks.stored import END, begin_of
from benchmarks.table import aligned, machine_lines, memory_text, time_text
from pcb.report.marked import put_between
from pcb.report.style import PALETTE, SETTINGS, figure_bytes, panel_grid
from pcb.runtime.atomic import write_atomic

PAGE = Path("docs") / "scale.md"
PICTURE = Path("docs") / "images" / "scale.png"
COMMAND = "python -m benchmarks --growth --record"


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
            memory_text(part.memory),
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
