"""Results as people and the plan read them: tables, a picture, and what a run leaves in git.

Times depend on the machine; how many times longer the program takes without its optimizations, and
the fraction of the roofline bound that it reaches, do so less. The former are compared on any
machine of a kind, the latter on the same processor.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.growth import measured_curves
from benchmarks.machine import Machine
from benchmarks.measure import BASELINE, FAST, Measured, Results
from pcb.errors import UserError
from pcb.preflight.rates import DATASHEETS, RATES, stored_precision, stored_width
from pcb.report.document_parts import put_between
from pcb.runtime.atomic import write_atomic
from pcb.runtime.stored import read_stored

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

    def listed(what: str) -> str:
        found = [(name.split(), rate) for name, rate in machine.rates.items() if what in name]
        return ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name[1]}" for name, rate in found)

    packages = ", ".join(f"{name} {machine.versions[name]}" for name in ("pcb", "python", "torch"))
    threads = f", {machine.threads} thread{'s' if machine.threads > 1 else ''}"
    where = "" if machine.kind == "cuda" else f"{threads} on {machine.cores} cores"
    yield f"{machine.name}{where}; {packages}."
    yield f"Matrix products {listed('matrix')};"
    yield f"convolutions {listed('convolution')}; copies {machine.rates['copy'] / 1e9:,.1f} GB/s."


def _row(part: Measured) -> tuple[str, ...]:
    if part.failure is not None:
        return (part.name, "failed", *("-" for _ in _PARTS[2:]))
    low, high = map(time_text, np.quantile(part.seconds[FAST], (0.25, 0.75)))
    rate = f"{part.items / part.median:.3g} {part.item}/s"
    bound = "-" if part.bound is None else time_text(part.bound)
    percents = ("-" if f is None else f"{100 * f:.0f} %" for f in (part.fraction, part.operators))
    median = time_text(part.median)
    return part.name, median, f"{low} .. {high}", rate, bound, *percents, memory_text(part)


def _variant_rows(part: Measured) -> Iterator[tuple[str, ...]]:
    for variant, seconds in list(part.seconds.items())[1:]:
        differences = part.differences.get(variant, {})
        text = ", ".join(f"{what} {value:.2g}" for what, value in differences.items()) or "-"
        yield part.name, variant, time_text(median(seconds)), f"{part.ratio(variant):.2f}", text


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

    All of a part that failed is. Fractions of the bound are compared on the same processor alone.
    """
    for part in results.parts:
        before, found = stored.get(part.name, {}), _ratios_of(part)
        same = before.get("machine") == results.machine.name
        for what in (BASELINE, "fraction") if same else (BASELINE,):
            was, now = before.get(what, 0.0), found.get(what, 0.0)
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
def stored_of(path: Path, machine: str) -> Iterator[dict[str, Any]]:
    """Yield what a file holds of a machine, to be changed; it is written when the block ends."""
    stored = read_stored(path)
    yield stored.setdefault(machine, {})
    write_atomic(path, json.dumps(stored, indent=2, sort_keys=True) + "\n")


def store_ratios(results: Results, path: Path = RATIOS) -> None:
    """Put the ratios of a run among the stored ones."""
    with stored_of(path, results.machine.kind) as own:
        for part in results.parts:
            if ratios := _ratios_of(part):
                own[part.name] = {**ratios, "machine": results.machine.name}


def store_rates(results: Results, path: Path = RATES) -> None:
    """Put the rates of a run on a GPU among the measured ones: the best part's of each kind."""
    machine = results.machine
    rated = [p for p in results.parts if p.kind and p.flops and not p.failure]
    if machine.kind != "cuda" or not rated:
        return
    # As the plan calls it: `H100`, not `NVIDIA H100 80GB HBM3`.
    name = next((name for name in DATASHEETS if name in machine.name), machine.name)
    with stored_of(path, name) as own:
        for part in sorted(rated, key=lambda p: p.flops / p.median):  # The fastest is last.
            what = f"`python -m benchmarks {part.name}` on {machine.name}, {part.precision}"
            by_precision = own.setdefault(str(part.kind), {})
            by_width = by_precision.setdefault(stored_precision(part.precision), {})
            rate = {"flops_per_second": part.flops / part.median, "measured": what}
            by_width[stored_width(part.width)] = rate


def store_page(results: Results) -> None:
    """Put the tables of a run into the page about speed; raises UserError if it has no place."""
    begin = begin_of(results.machine.kind, RECORD)
    put_between(SPEED, begin, END, "\n".join(table_lines(results)))


def begin_of(kind: str, command: str) -> str:
    """Return the line of a page after which the tables of a kind of machine stand."""
    return f"<!-- measured on {kind}: `{command}` writes this -->"


def growth_lines(results: Results) -> Iterator[str]:
    """Yield the machine, and a table with a row for each point of the curves."""
    rows = [_CURVES]
    for curve, points in measured_curves(results):
        for (few, before), (number, part) in pairwise([points[0], *points]):
            time, grows = part.failure or time_text(part.median), "-"
            if number != few and not (before.failure or part.failure):
                # 1 is as the number itself, 2 as its square.
                grows = f"n^{math.log(part.median / before.median, number / few):.2f}"
            rows += [(curve.title, curve.against, f"{number:,}", time, grows, memory_text(part))]
    yield from (*machine_lines(results.machine), "", *aligned(rows))


def store_growth(results: Results) -> None:
    """Put the table of all curves into the page about scale, and their picture beside it."""
    begin = begin_of(results.machine.kind, RECORD_GROWTH)
    put_between(SCALE, begin, END, "\n".join(growth_lines(results)))
    write_atomic(PICTURE, growth_picture(results))


def growth_picture(results: Results) -> bytes:
    """Plot every curve as multiples of its first point; a dotted line grows as the number."""
    import matplotlib

    from pcb.report.style import PALETTE, SETTINGS, figure_bytes, new_figure

    with matplotlib.rc_context(SETTINGS):
        figure, panels = new_figure(9.0, 4.5, 1, 2, share_y=True)
        for (curve, points), color in zip(measured_curves(results), PALETTE, strict=False):
            known = [(n, p.median, p.memory or math.nan) for n, p in points if not p.failure]
            table, label = np.reshape(known, (-1, 3)), f"{curve.title}: {curve.against}"
            numbers, *measured = (table / table[:1]).T
            for panel, values in zip(panels, measured, strict=True):
                panel.loglog(numbers, values, "o-", color=color, label=label)
        for panel, what in zip(panels, ("time of a call", "peak memory"), strict=True):
            panel.axline((1, 1), (2, 2), color="gray", linestyle=":")
            panel.set(title=f"{what}, times the first", xlabel="number, times the first")
            panel.xaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_major_formatter("{x:g}")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure_bytes(figure, "png")
