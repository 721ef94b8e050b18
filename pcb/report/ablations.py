"""Tables of what one choice changes while all else stays: RoPE mixing, guidance, blocks."""

from collections.abc import Sequence

from pcb.report.rows import NOT_RUN, Row
from pcb.report.tables import NOTHING, Table, anchor, score_text

_SCORES = ("fid", "is", "precision", "recall")
_HEADINGS = ("FID", "IS", "precision", "recall")


def guidance_table(rows: Sequence[Row]) -> Table:
    """Return every guided row below the same config without guidance."""
    lines, links = [], []
    for row in rows:
        partners = [r for r in rows if r.guided and _same_sampling(r, row)]
        for shown in [row, *partners] if partners and not row.guided else []:
            g = f"{shown.cfg:g}" if shown.guided else "off"
            start = str(shown.cfg_start_step) if shown.guided else NOTHING
            other = f"{shown.cfg + 1:g}" if shown.guided else "1"
            lines.append((shown.model, str(shown.steps), g, other, start, *_scores(shown)))
            links.append(f"task-metrics-{anchor(shown.variant)}")
    return Table(
        name="guidance",
        caption="Guidance: weight g of cond + g (cond - uncond), from a step on, counted over all "
        "scales from 0. Other papers print g + 1.",
        header=("model", "steps", "g", "g + 1", "from step", *_HEADINGS),
        rows=tuple(lines),
        links=tuple(links),
    )


def mixing_table(rows: Sequence[Row]) -> Table:
    """Return models that differ in their mixing layers alone, config by config."""
    lines, links = [], []
    for row in rows:
        same = [r for r in rows if _twin(r, row)]
        if len({r.mixing_layers for r in same}) > 1:
            lines.append((row.setting, row.ratio_name, str(row.mixing_layers), *_scores(row)))
            links.append(f"task-metrics-{anchor(row.variant)}")
    order = sorted(range(len(lines)), key=lambda k: lines[k][:3])
    return Table(
        name="mixing",
        caption="RoPE mixing: how many leading layers mix the phases of a cell and of the cell a "
        "block earlier.",
        header=("setting", "ratio", "mixing layers", *_HEADINGS),
        rows=tuple(lines[k] for k in order),
        links=tuple(links[k] for k in order),
    )


def blocks_table(rows: Sequence[Row]) -> Table:
    """Return the unguided rows of equal model and total steps whose blocks lie differently."""
    lines, links = [], []
    for row in rows:
        same = [r for r in rows if (r.model, r.steps, r.cfg) == (row.model, row.steps, row.cfg)]
        if row.guided or len({r.schedule.blocks_per_scale for r in same}) < 2:
            continue
        blocks = " ".join(map(str, row.schedule.blocks_per_scale))
        lines.append((row.model, blocks, str(row.steps), *_scores(row)))
        links.append(f"task-metrics-{anchor(row.variant)}")
    return Table(
        name="blocks",
        caption="Allocation of the same number of steps to the scales.",
        header=("model", "blocks per scale", "steps", *_HEADINGS),
        rows=tuple(lines),
        text_columns=2,
        links=tuple(links),
    )


def _same_sampling(a: Row, b: Row) -> bool:
    return (a.model, a.schedule) == (b.model, b.schedule)


def _twin(a: Row, b: Row) -> bool:
    return (a.architecture, a.ratio, a.setting) == (b.architecture, b.ratio, b.setting)


def _scores(row: Row) -> tuple[str, ...]:
    return tuple(score_text(row, score) if row.was_run else NOT_RUN for score in _SCORES)
