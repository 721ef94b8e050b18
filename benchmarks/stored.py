"""What runs of the harness leave in git: rates for `pcb plan`, ratios to be kept, and a page.

Times depend on the machine; how many times longer the program takes without its optimisations, and
the share of the machine's bound that it reaches, do so less. The former are compared on any machine
of a kind, the latter on the same processor.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.case import BASELINE
from benchmarks.measure import Measured, Results
from benchmarks.table import table_lines
from pcb.errors import UserError
from pcb.preflight.rates import HALF, RATES, read_stored
from pcb.report.marked import put_between
from pcb.runtime.atomic import write_atomic

RATIOS = Path("benchmarks") / "ratios.json"
"""``{cpu or cuda: {part: {"baseline": ratio, "share": of bound, "machine": name}}}``, in git."""
PAGE = Path("docs") / "speed.md"
"""Holds the tables of the last whole run on each kind of machine."""
END = "<!-- end of measured -->"
ALLOWED_LOSS = 0.2


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A ratio that is smaller than the stored one by more than is allowed."""

    part: str
    what: str
    stored: float
    found: float

    def __str__(self) -> str:
        loss = 100 * (1 - self.found / self.stored)
        return f"{self.part}: {self.what} {self.found:.3g}, was {self.stored:.3g} (-{loss:.0f} %)"


def ratios_of(part: Measured) -> dict[str, float]:
    """Return what of a part can be compared between machines of a kind."""
    found = {BASELINE: part.ratio(BASELINE), "share": part.share}
    return {what: value for what, value in found.items() if value is not None}


def losses(stored: dict[str, dict[str, Any]], results: Results) -> Iterator[Loss]:
    """Yield every ratio that was lost; a part or ratio that is not stored cannot be."""
    for part in results.parts:
        found = ratios_of(part)
        before = stored.get(part.name, {})
        if before.get("machine") != results.machine.name:
            found.pop("share", None)
        for what in found.keys() & before.keys():
            if found[what] < (1 - ALLOWED_LOSS) * before[what]:
                yield Loss(part=part.name, what=what, stored=before[what], found=found[what])


def read_ratios(kind: str, path: Path = RATIOS) -> dict[str, dict[str, Any]]:
    """Return the stored ratios of one kind of machine; raises UserError where there are none."""
    found = read_stored(path).get(kind)
    if not found:
        raise UserError(
            f"{path}: holds no ratios of {kind}; store some with `python -m benchmarks --record`"
        )
    return found


def store_ratios(results: Results, path: Path = RATIOS) -> None:
    """Put the ratios of a run among the stored ones."""
    stored = read_stored(path)
    own = stored.setdefault(results.machine.kind, {})
    for part in results.parts:
        if ratios_of(part):
            rounded = {what: round(value, 4) for what, value in ratios_of(part).items()}
            own[part.name] = {**rounded, "machine": results.machine.name}
    _write(path, stored)


def store_rates(results: Results, path: Path = RATES) -> None:
    """Put the rates of a run on a GPU among the measured ones: the best part's for each kind."""
    if results.machine.kind != "cuda":
        return
    stored = read_stored(path)
    own = stored.setdefault(_short(results.machine.name), {})
    # In ascending order: the fastest is written last.
    for part in sorted((p for p in results.parts if p.flops), key=_rate):
        if part.kind is not None:
            what = f"`python -m benchmarks {part.name}` on {results.machine.name}, {part.precision}"
            # By precision too: what runs in 16 bits says nothing of float32.
            rate = {"flops_per_second": _rate(part), "measured": what}
            own.setdefault(part.kind, {})[HALF[part.precision != "float32"]] = rate
    _write(path, stored)


def store_page(results: Results, path: Path = PAGE) -> None:
    """Put the tables of a run on this kind of machine into the page about speed.

    Raises UserError if the page has no place for them.
    """
    put_between(path, begin_of(results.machine.kind), END, "\n".join(table_lines(results)))


def begin_of(kind: str, command: str = "python -m benchmarks --record") -> str:
    """Return the line of a page after which the tables of a kind of machine stand."""
    return f"<!-- measured on {kind}: `{command}` writes this -->"


def _rate(part: Measured) -> float:
    assert part.flops is not None
    return part.flops / part.median


def _short(name: str) -> str:
    """Return a GPU's name as people say it: `H100` of `NVIDIA H100 80GB HBM3`."""
    words = [word for word in name.replace("-", " ").split() if word not in ("NVIDIA", "Tesla")]
    return words[0]


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
