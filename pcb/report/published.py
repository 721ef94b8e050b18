"""The paper's Table 1 as data, and our rows beside it, as far as they can be compared.

Published numbers stand in ``published.yaml`` and in columns of their own. A measured cell is filled
from a measured row alone; rows of other data stand apart and are called not comparable.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pcb.published.systems import catalog
from pcb.report.rows import NOT_RUN, Row
from pcb.report.system_rows import Scored, SystemRow
from pcb.report.tables import NOTHING, Table, anchor, score_text
from pcb.report.times import NONE, NOT_MEASURED, OWN, Times

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
    "s per image, published",
    "s per image, measured",
    "ms, one image alone",
    "images/s, best batch",
    "timed on",
    "params (M), counted",
    "model calls, counted",
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
    sampled_on: Mapping[str, str],
    systems: Sequence[SystemRow] = (),
    times: Times = NONE,
) -> Table:
    """Return Table 1 with measured cells.

    `comparable` says that the rows are of ImageNet 256x256; if not, those at `steps` total steps
    are added at the end as what they are. `parameters` maps a model to its number of weights,
    `sampled_on` a row's variant to the hardware and batch size of its time. `systems` are rows of
    the others, which stand beside published ones if their weights are the released ones. `times`
    are those of full sizes with random weights.
    """
    found = published_systems()
    of_systems = {row.system: row for row in systems if comparable and row.released}
    beside: list[Row | SystemRow | None] = [
        (measured_row(system, rows) if comparable else None) or of_systems.get(system["system"])
        for system in found
    ]
    lines = [
        _line(*pair, parameters, sampled_on, times) for pair in zip(found, beside, strict=True)
    ]
    apart: list[Row | SystemRow] = [r for r in rows if r.steps == steps and not comparable]
    apart += [row for row in systems if row not in of_systems.values()]
    lines += [_apart(row, parameters, sampled_on) for row in apart]
    return Table(
        name="table1",
        caption="The paper's Table 1 (class-conditional ImageNet 256x256, 50,000 images; hardware "
        "and batch size of its times are not stated) and what was measured here. Times of one "
        "image alone and of the best batch are those of `python -m benchmarks systems`: full size, "
        "random weights, guidance as published, decoding not included. " + _released_otherwise(),
        header=HEADER,
        rows=tuple(lines),
        text_columns=2,
        links=tuple(f"task-metrics-{anchor(r.variant)}" if r else "" for r in (*beside, *apart)),
    )


def measured_row(system: Mapping[str, Any], rows: Sequence[Row]) -> Row | None:
    """Return the measured row that stands beside a published one."""
    run = system.get("run")
    return next((row for row in rows if run == _sampling(row)), None)


def _sampling(row: Row) -> dict[str, float | None]:
    """Return what of a row must be as published for it to stand beside a published one."""
    return {
        "ratio": row.ratio,
        "cfg": row.cfg,
        "from_step": row.cfg_start_step,
        "steps": row.steps,
        "width": row.width,
        "layers": row.layers,
    }


def _released_otherwise() -> str:
    """Say of which systems the released weights gave another row than the table's."""
    said = [
        f"the released weights of {name} gave FID {row.fid:g} ({row.of})"
        for name, system in catalog().items()
        for row in [system.row_released]
        if row is not None and row is not system.table1
    ]
    return f"Mind that {'; '.join(said)}." if said else ""


def _line(
    system: Mapping[str, Any],
    row: Row | SystemRow | None,
    parameters: Mapping[str, int],
    sampled_on: Mapping[str, str],
    times: Times,
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
    cells += [*_timed(timed_name(system), times), *_counted(system, row, parameters)]
    return (*cells, *_circumstances(row, sampled_on))


def timed_name(system: Mapping[str, Any]) -> str:
    """Return what benchmarks call a published system."""
    run = system.get("run")
    return OWN[run["ratio"]] if run else str(system["system"])


def _timed(name: str, times: Times) -> tuple[str, str, str]:
    """Return milliseconds of one image alone, images per second, and the machine."""
    one, many = times.milliseconds(name), times.per_second(name)
    return (
        NOT_MEASURED if one is None else f"{one:.1f}",
        NOT_MEASURED if many is None else f"{many:.0f}",
        NOT_MEASURED if one is None else times.machine,
    )


def _counted(
    system: Mapping[str, Any], row: Row | SystemRow | None, parameters: Mapping[str, int]
) -> tuple[str, str]:
    """Return parameters in millions and model calls as the code here counts them.

    Those of another system are counted by tests, at full size.
    """
    other = catalog().get(system["system"])
    if other is not None:
        return f"{other.parameters / 1e6:.2f}", str(other.steps)
    count = None if row is None else parameters.get(row.model)
    steps = NOT_RUN if row is None else str(row.steps)
    return NOT_RUN if count is None else f"{count / 1e6:.2f}", steps


def _apart(
    row: Row | SystemRow, parameters: Mapping[str, int], sampled_on: Mapping[str, str]
) -> tuple[str, ...]:
    """Return a row of another data set: nothing published stands beside it."""
    name, count, kind = row.model, parameters.get(row.model), "other data, not comparable"
    if isinstance(row, SystemRow):
        name, count = f"{row.system} ({row.setting})", row.parameters
        kind = kind if row.released else "random weights, not comparable"
    elif row.guided:
        name += f", cfg {row.cfg:g}"
    cells = [name, kind, NOT_RUN if count is None else f"{count / 1e6:.2f}"]
    cells.append(NOT_RUN if row.steps is None else str(row.steps))
    for score in _MEASURED:
        cells += [NOTHING, score_text(row, score)]
        cells += [NOTHING] if score in _DIFFERENCES else []
    cells += [NOTHING, _seconds(row), *3 * [NOTHING], *cells[2:4]]
    return (*cells, *_circumstances(row, sampled_on))


def _difference(row: Scored | None, score: str, published: float | None) -> str:
    """Return measured minus published, as text with its sign."""
    if row is None or not row.was_run:
        return NOT_RUN
    measured = row.scores.get(score)
    if measured is None or published is None:
        return NOTHING
    return f"{measured - published:+.2f}"


def _circumstances(row: Scored | None, sampled_on: Mapping[str, str]) -> tuple[str, str]:
    """Return how many images were measured, and on what they were sampled."""
    if row is None or not row.was_run:
        return NOT_RUN, NOT_RUN
    return f"{row.images:,}", sampled_on.get(row.variant) or NOTHING


def _seconds(row: Scored | None) -> str:
    seconds = None if row is None else row.seconds_per_image
    return NOT_RUN if seconds is None else f"{seconds:.4f}"


def published_points() -> list[tuple[float, int, Mapping[str, float]]]:
    """Return ratio, steps and scores of the paper's own rows, for figures."""
    return [
        (float(system["run"]["ratio"]), int(system["run"]["steps"]), system)
        for system in published_systems()
        if system.get("run")
    ]
