"""The paper's Table 1 as data, and our rows beside it, as far as they can be compared.

Published numbers stand in ``published.yaml`` and in columns of their own. A measured cell is filled
from a measured row alone; rows of other data stand apart and are called not comparable.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pcb.report.rows import NOT_RUN, Row
from pcb.report.tables import NOTHING, Table, anchor, score_text

_FILE = Path(__file__).with_name("published.yaml")
_MEASURED = ("fid", "is", "precision", "recall")
HEADER = (
    "system",
    "type",
    "params (M)",
    "steps",
    "FID, published",
    "FID, measured",
    "FID, difference",
    "IS, published",
    "IS, measured",
    "IS, difference",
    "precision, published",
    "precision, measured",
    "recall, published",
    "recall, measured",
    "s an image, published",
    "s an image, measured",
    "images, measured",
    "measured on",
)
_DIFFERENCES = ("fid", "is")


@cache
def published_systems() -> tuple[Mapping[str, Any], ...]:
    """Return the lines of the paper's Table 1."""
    return tuple(yaml.safe_load(_FILE.read_text(encoding="utf-8"))["table1"])


def published_table(
    rows: Sequence[Row],
    parameters: Mapping[str, int],
    *,
    comparable: bool,
    steps: int,
    drawn_on: Mapping[str, str],
) -> Table:
    """Return Table 1 with measured cells.

    `comparable` says that the rows are of ImageNet 256x256; if not, those at `steps` total steps
    are added at the end as what they are. `parameters` maps a model to its number of weights,
    `drawn_on` a row's variant to the hardware and batch size of its time.
    """
    systems = published_systems()
    beside = [measured_row(system, rows) if comparable else None for system in systems]
    lines = [_line(*pair, drawn_on) for pair in zip(systems, beside, strict=True)]
    apart = [] if comparable else [row for row in rows if row.steps == steps]
    lines += [_apart(row, parameters, drawn_on) for row in apart]
    return Table(
        name="table1",
        caption="The paper's Table 1 (class-conditional ImageNet 256x256, 50,000 images; hardware "
        "and batch size of its times are not stated) and what was measured here.",
        header=HEADER,
        rows=tuple(lines),
        text_columns=2,
        links=tuple(f"task-metrics-{anchor(r.variant)}" if r else "" for r in (*beside, *apart)),
    )


def measured_row(system: Mapping[str, Any], rows: Sequence[Row]) -> Row | None:
    """Return the measured row that stands beside a published one."""
    run = system.get("run")
    return next((row for row in rows if run == _drawing(row)), None)


def _drawing(row: Row) -> dict[str, float | None]:
    """Return what of a row must be as published for it to stand beside a published one."""
    return {
        "ratio": row.ratio,
        "cfg": row.cfg,
        "from_step": row.cfg_start_step,
        "steps": row.steps,
        "width": row.width,
        "layers": row.layers,
    }


def _line(
    system: Mapping[str, Any], row: Row | None, drawn_on: Mapping[str, str]
) -> tuple[str, ...]:
    """Return one published system, with measured cells where a row was run."""
    cells = [system["system"], system["type"], str(system["params_m"]), system["steps"]]
    for score in _MEASURED:
        digits = {"fid": 2, "is": 1}.get(score, 2)
        value = system[score]
        cells.append(NOTHING if value is None else f"{value:.{digits}f}")
        cells.append(NOT_RUN if row is None else score_text(row, score))
        if score in _DIFFERENCES:
            cells.append(_difference(row, score, value))
    time = system["time_s"]
    cells += [NOTHING if time is None else f"{time:.2f}", _seconds(row)]
    return (*cells, *_circumstances(row, drawn_on))


def _apart(row: Row, parameters: Mapping[str, int], drawn_on: Mapping[str, str]) -> tuple[str, ...]:
    """Return a row of another data set: nothing published stands beside it."""
    guidance = f", cfg {row.cfg:g}" if row.guided else ""
    count = parameters.get(row.model)
    cells = [f"{row.model}{guidance}", "other data, not comparable"]
    cells += [NOT_RUN if count is None else f"{count / 1e6:.2f}", str(row.steps)]
    for score in _MEASURED:
        cells += [NOTHING, score_text(row, score)]
        cells += [NOTHING] if score in _DIFFERENCES else []
    return (*cells, NOTHING, _seconds(row), *_circumstances(row, drawn_on))


def _difference(row: Row | None, score: str, published: float | None) -> str:
    """Return measured minus published, as text with its sign."""
    if row is None or not row.was_run:
        return NOT_RUN
    measured = row.scores.get(score)
    if measured is None or published is None:
        return NOTHING
    return f"{measured - published:+.2f}"


def _circumstances(row: Row | None, drawn_on: Mapping[str, str]) -> tuple[str, str]:
    """Return how many images were measured, and on what they were drawn."""
    if row is None or not row.was_run:
        return NOT_RUN, NOT_RUN
    return f"{row.images:,}", drawn_on.get(row.variant) or NOTHING


def _seconds(row: Row | None) -> str:
    seconds = None if row is None else row.seconds_per_image
    return NOT_RUN if seconds is None else f"{seconds:.4f}"


def published_points() -> list[tuple[float, int, Mapping[str, float]]]:
    """Return ratio, steps and scores of the paper's own rows, for figures."""
    return [
        (float(system["run"]["ratio"]), int(system["run"]["steps"]), system)
        for system in published_systems()
        if system.get("run")
    ]
