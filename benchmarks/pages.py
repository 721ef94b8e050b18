"""Results as people and the plan read them: tables, a picture, and what a run leaves in git.

Times depend on the machine; how many times longer the program takes without its optimizations, and
the fraction of the machine's bound that it reaches, do so less. The former are compared on any
machine of a kind, the latter on the same processor.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.growth import Points, measured_curves
from benchmarks.machine import Machine
from benchmarks.measure import BASELINE, Measured, Results
from pcb.errors import UserError
from pcb.preflight.rates import RATES, stored_precision, stored_width
from pcb.report.document_parts import put_between
from pcb.report.times import TIMES
from pcb.runtime.atomic import write_atomic
from pcb.runtime.stored import read_stored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATIOS = Path("benchmarks") / "ratios.json"
"""``{cpu or cuda: {part: {"baseline": ratio, "fraction": of bound, "machine": name}}}``, in git."""
SPEED, SCALE = Path("docs") / "speed.md", Path("docs") / "scale.md"
"""Hold the tables of the last whole run, and of the last curves, on each kind of machine."""
PICTURE = Path("docs") / "images" / "scale.png"
RECORD, RECORD_GROWTH = "python -m benchmarks --record", "python -m benchmarks --growth --record"
END = "<!-- end of measured -->"
ALLOWED_LOSS = 0.2

_PARTS = ("part", "median", "quartiles", "items/s", "bound", "fraction", "operators", "peak memory")
_VARIANTS = ("part", "variant", "median", "ratio", "differences from the first")
_FACTS = ("part", "what", "number")
_CURVES = ("curve", "against", "number", "median of a call", "grows as", "peak memory")


def table_lines(results: Results) -> Iterator[str]:
    """Yield the machine, a row for each part, and one for each of its other variants."""
    parts = results.parts
    yield from machine_lines(results.machine)
    for header, rows in (
        (_PARTS, [_row(part) for part in parts]),
        (_VARIANTS, [row for part in parts for row in _variant_rows(part)]),
        (_FACTS, [(p.name, what, f"{n:.4g}") for p in parts for what, n in p.facts.items()]),
    ):
        if rows:
            yield from ("", *aligned([header, *rows]))
    failures = [f"{part.name} failed: {part.failure}" for part in parts if part.failure]
    if failures:
        yield from ("", *failures)


def machine_lines(machine: Machine) -> Iterator[str]:
    """Yield what was measured on, and its own rates."""

    def listed(rates: Mapping[str, float]) -> str:
        return ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in rates.items())

    packages = ", ".join(f"{name} {machine.versions[name]}" for name in ("pcb", "python", "torch"))
    threads = f", {machine.threads} thread{'s' if machine.threads > 1 else ''}"
    where = "" if machine.kind == "cuda" else f"{threads} on {machine.cores} cores"
    copies = f"copies {machine.bandwidth / 1e9:,.1f} GB/s"
    yield f"{machine.name}{where}; {packages}."
    yield f"Matrix products {listed(machine.matrix)};"
    yield f"convolutions {listed(machine.convolution)}; {copies}."


def _row(part: Measured) -> tuple[str, ...]:
    if part.failure is not None:
        return (part.name, "failed", *("-" for _ in _PARTS[2:]))
    low, high = map(time_text, np.quantile(part.first, (0.25, 0.75)))
    rate = f"{part.items / part.median:.3g} {part.item}/s"
    bound = "-" if part.bound is None else time_text(part.bound)
    percents = ("-" if f is None else f"{100 * f:.0f} %" for f in (part.fraction, part.operators))
    median = time_text(part.median)
    return part.name, median, f"{low} .. {high}", rate, bound, *percents, memory_text(part)


def _variant_rows(part: Measured) -> Iterator[tuple[str, ...]]:
    for variant, seconds in list(part.seconds.items())[1:]:
        differences = part.differences.get(variant, {})
        text = ", ".join(f"{what} {value:.2g}" for what, value in differences.items()) or "-"
        ratio = f"{part.ratio(variant):.2f}"
        yield part.name, variant, time_text(median(seconds)), ratio, text


def memory_text(part: Measured) -> str:
    """Return a part's peak memory in MiB, and on a GPU what it counts."""
    if part.memory is None:
        return "-"
    named = "" if part.held in ("", "resident") else f" {part.held}"
    return f"{part.memory / 2**20:,.0f} MiB{named}"


def time_text(seconds: float) -> str:
    """Return a time with three digits and a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:  # Where three digits round to the next unit.
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table; the first row is its header, all columns but the first go right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    marks = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for name, *numbers in (rows[0], marks, *rows[1:]):
        cells = (name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:]))
        yield f"| {' | '.join(cells)} |"


def losses(stored: Mapping[str, Mapping[str, Any]], results: Results) -> Iterator[tuple[str, str]]:
    """Yield a part's name, and what of it was lost, for every ratio that is too small.

    All of a part that failed is lost; what is not stored cannot be. Fractions of the bound are
    compared on the same processor alone.
    """
    for part in results.parts:
        before, found = stored.get(part.name, {}), _ratios_of(part)
        compared = {BASELINE, "fraction"} & set(before)
        if before.get("machine") != results.machine.name:
            compared -= {"fraction"}
        for what in sorted(compared):
            was, now = before[what], 0.0 if part.failure else found.get(what, before[what])
            if now < (1 - ALLOWED_LOSS) * was:
                yield part.name, f"{what} {now:.3g}, was {was:.3g} (-{100 * (1 - now / was):.0f} %)"


def _ratios_of(part: Measured) -> dict[str, float]:
    """Return what of a part can be compared between machines of a kind."""
    if part.failure is not None:
        return {}
    found = {BASELINE: part.ratio(BASELINE), "fraction": part.fraction}
    return {what: round(value, 4) for what, value in found.items() if value is not None}


def read_ratios(kind: str, path: Path = RATIOS) -> dict[str, dict[str, Any]]:
    """Return the stored ratios of one kind of machine; raises UserError where there are none."""
    found = read_stored(path).get(kind)
    if not found:
        raise UserError(f"{path}: holds no ratios of {kind}; store some with `{RECORD}`")
    return found


@contextmanager
def _stored(path: Path, machine: str) -> Iterator[dict[str, Any]]:
    """Yield what a file holds of a machine, to be changed; it is written when the block ends."""
    stored = read_stored(path)
    yield stored.setdefault(machine, {})
    write_atomic(path, json.dumps(stored, indent=2, sort_keys=True) + "\n")


def store_ratios(results: Results, path: Path = RATIOS) -> None:
    """Put the ratios of a run among the stored ones."""
    with _stored(path, results.machine.kind) as own:
        for part in results.parts:
            if ratios := _ratios_of(part):
                own[part.name] = {**ratios, "machine": results.machine.name}


def store_rates(results: Results, path: Path = RATES) -> None:
    """Put the rates of a run on a GPU among the measured ones: the best part's of each kind."""
    machine = results.machine
    rated = [p for p in results.parts if p.kind and p.flops and not p.failure]
    if machine.kind != "cuda" or not rated:
        return
    # As people say it: `H100` of `NVIDIA H100 80GB HBM3`.
    words = machine.name.replace("-", " ").split()
    short = next(word for word in words if word not in ("NVIDIA", "Tesla"))
    with _stored(path, short) as own:
        for part in sorted(rated, key=lambda p: p.flops / p.median):  # The fastest is last.
            what = f"`python -m benchmarks {part.name}` on {machine.name}, {part.precision}"
            by_precision = own.setdefault(str(part.kind), {})
            by_width = by_precision.setdefault(stored_precision(part.precision), {})
            rate = {"flops_per_second": part.flops / part.median, "measured": what}
            by_width[stored_width(part.width)] = rate


def store_systems(results: Results, path: Path = TIMES) -> None:
    """Put the times of whole systems on a GPU among the stored ones, for the report's Table 1."""
    machine = results.machine
    # A third part of a name is a step.
    found = [(p, p.name.split("/")[1:]) for p in results.parts if p.name.startswith("systems/")]
    whole = [(p, name) for p, name in found if len(name) == 2 and not p.failure]
    if machine.kind != "cuda" or not whole:
        return
    with _stored(path, machine.name) as own:
        for part, (system, batch) in whole:
            own.setdefault(system, {})[batch] = {
                "ms": round(1000 * part.median, 4),
                "images": part.items,
                "precision": part.precision,
                "memory_mib": None if part.memory is None else round(part.memory / 2**20),
                "torch": machine.versions["torch"],
                **{what: round(number, 1) for what, number in part.facts.items()},
            }


def store_page(results: Results, path: Path = SPEED) -> None:
    """Put the tables of a run on this kind of machine into the page about speed.

    Raises UserError if the page has no place for them.
    """
    begin = begin_of(results.machine.kind, RECORD)
    put_between(path, begin, END, "\n".join(table_lines(results)))


def begin_of(kind: str, command: str) -> str:
    """Return the line of a page after which the tables of a kind of machine stand."""
    return f"<!-- measured on {kind}: `{command}` writes this -->"


def growth_lines(results: Results) -> Iterator[str]:
    """Yield the machine, and a table with a row for each point of the curves."""
    rows = [_CURVES]
    for curve, points in measured_curves(results):
        for (number, part), order in zip(points, orders(points), strict=True):
            time = part.failure or time_text(part.median)
            grows = "-" if order is None else f"n^{order:.2f}"
            rows += [(curve.title, curve.against, f"{number:,}", time, grows, memory_text(part))]
    yield from (*machine_lines(results.machine), "", *aligned(rows))


def orders(points: Points) -> list[float | None]:
    """Return how time grows from the point before: 1 as the number itself, 2 as its square."""
    found: list[float | None] = [None]
    for (few, before), (many, after) in pairwise(points):
        known = not before.failure and not after.failure
        found.append(math.log(after.median / before.median, many / few) if known else None)
    return found


def store_growth(results: Results) -> None:
    """Put the table of all curves into the page about scale, and their picture beside it."""
    from pcb.report.style import figure_bytes

    begin = begin_of(results.machine.kind, RECORD_GROWTH)
    put_between(SCALE, begin, END, "\n".join(growth_lines(results)))
    write_atomic(PICTURE, figure_bytes(growth_figure(results), "png"))


def growth_figure(results: Results) -> "Figure":
    """Plot time and peak memory of every curve, each point with its value.

    Beside time a dotted line grows as the number itself, or falls as the ranks' inverse.
    """
    import matplotlib

    from pcb.report.style import PALETTE, SETTINGS, panel_grid

    with matplotlib.rc_context(SETTINGS):
        curves = list(measured_curves(results))
        figure, panels = panel_grid(2 * len(curves), 2, 8.0, 2.3)
        for (curve, points), time, memory in zip(curves, panels[::2], panels[1::2], strict=True):
            known = [(number, part) for number, part in points if not part.failure]
            seconds = {number: part.median for number, part in known}
            held = {number: (part.memory or math.nan) / 2**30 for number, part in known}
            (first, least), power = min(seconds.items()), -1 if curve.against == "ranks" else 1
            ideal = [least * (number / first) ** power for number in seconds]
            _plot(time, seconds, time_text, PALETTE[0])
            time.plot(list(seconds), ideal, ":", color=PALETTE[0], alpha=0.6, linewidth=1.0)
            _plot(memory, held, "{:.2g} GiB".format, PALETTE[1])
            time.set(title=curve.title, xlabel=curve.against, ylabel="time of a call")
            memory.set(title=curve.title, xlabel=curve.against, ylabel="peak memory")
    return figure


def _plot(
    panel: "Axes", values: Mapping[int, float], text: Callable[[float], str], color: str
) -> None:
    panel.plot(list(values), list(values.values()), "o-", color=color)
    for point in values.items():
        panel.annotate(text(point[1]), point, (0, 7), textcoords="offset points", ha="center")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_ylim(min(values.values()) / 2, max(values.values()) * 3)
    panel.margins(x=0.12)
    panel.set_xticks(list(values), [f"{number:,}" for number in values])
    panel.set_xticks([], minor=True)
    panel.tick_params(axis="y", which="both", labelleft=False)
