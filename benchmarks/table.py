"""Results as text: Markdown tables, which read well in a terminal too."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.machine import Machine
from benchmarks.measure import Measured, Results

_MEBI = 2**20
_HEADER = ("part", "median", "quartiles", "items/s", "least", "share", "operators", "peak memory")
_RATIOS = ("part", "variant", "median", "ratio", "differences from the first")


def table_lines(results: Results) -> Iterator[str]:
    """Yield the machine, a row for each part, and one for each of its other variants."""
    yield from machine_lines(results.machine)
    yield ""
    yield from aligned([_HEADER, *map(_row, results.parts)])
    others = [row for part in results.parts for row in _variant_rows(part)]
    if others:
        yield ""
        yield from aligned([_RATIOS, *others])


def machine_lines(machine: Machine) -> Iterator[str]:
    """Yield what was measured on, and its own rates."""
    packages = ", ".join(f"{name} {machine.versions[name]}" for name in ("pcb", "python", "torch"))
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    where = "" if machine.kind == "cuda" else f", {threads} on {machine.cores} cores"
    yield f"{machine.name}{where}; {packages}."
    copies = f"copies {machine.bandwidth / 1e9:,.1f} GB/s"
    yield f"Matrix products {_rates(machine.matrix)};"
    yield f"convolutions {_rates(machine.convolution)}; {copies}."


def _rates(rates: Mapping[str, float]) -> str:
    return ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in rates.items())


def _row(part: Measured) -> tuple[str, ...]:
    low, middle, high = part.variants[0].quartiles
    return (
        part.name,
        time_text(middle),
        f"{time_text(low)} .. {time_text(high)}",
        f"{part.items / middle:.3g} {part.item}/s",
        "-" if part.bound is None else time_text(part.bound),
        _percent(part.share),
        _percent(part.operators),
        memory_text(part.memory),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _variant_rows(part: Measured) -> Iterator[tuple[str, ...]]:
    for variant in part.variants[1:]:
        differences = ", ".join(f"{k} {v:.2g}" for k, v in variant.differences.items())
        median = time_text(variant.quartiles[1])
        yield part.name, variant.name, median, f"{variant.ratio:.2f}", differences or "-"


def memory_text(size: int | None) -> str:
    """Return bytes in MiB."""
    return "-" if size is None else f"{size / _MEBI:,.0f} MiB"


def time_text(seconds: float) -> str:
    """Return a time with three digits and a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:  # Where three digits round to the next unit.
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def aligned(rows: Sequence[Iterable[str]]) -> Iterator[str]:
    """Yield a Markdown table; the first row is its header, all columns but the first go right."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    marks = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (cells[0], marks, *cells[1:]):
        first, *rest = zip(row, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        yield f"| {' | '.join(padded)} |"
