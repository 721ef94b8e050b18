"""Tables as values, and the same table as Markdown, CSV and LaTeX (booktabs)."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pcb.config import Preset
from pcb.order.allocation import allocation_of
from pcb.report.rows import COLUMNS, NOT_RUN, SCORES, Row, extra_columns, row_cells
from pcb.report.system_rows import Scored

NOTHING = "–"
"""A cell that has no meaning in its row."""
_TEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "×": r"$\times$", "±": r"$\pm$"}
_HEADINGS = {
    "fid": "FID",
    "sfid": "sFID",
    "is": "IS",
    "precision": "precision",
    "recall": "recall",
    "kid": "KID",
    "agreement": "agreement",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text; `links` are targets on the page, one per row, empty for none."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    """Leading columns that are words; the others are numbers, set flush right."""
    links: tuple[str, ...] = ()
    cell_links: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(first cell of the row, heading) -> target on the page, for cells with their own sources."""


def metrics_csv(rows: Sequence[Row]) -> str:
    """Return the text of `metrics.csv`: fixed columns first, every digit of every number."""
    extra = extra_columns(rows)
    return _csv((*COLUMNS, *extra), [tuple(row_cells(row, extra).values()) for row in rows])


def results_table(rows: Sequence[Row]) -> Table:
    """Return the main table: a line for each model and sampling config.

    Deviations stand behind their scores, and torch-fidelity's own figures in `metrics.csv` alone.
    """
    extra = tuple(
        name
        for name in extra_columns(rows)
        if not name.endswith("_std") and not name.startswith("torch_fidelity_")
    )
    scores = (*SCORES, *extra)
    headings = tuple(_HEADINGS.get(name, name.replace("_", " ")) for name in scores)
    return Table(
        name="results",
        caption="Every model and sampling config. Guidance g is the weight of "
        "cond + g (cond - uncond); other papers print g + 1.",
        header=(
            "model",
            "scales",
            "blocks per scale",
            "allocation",
            "guidance",
            "steps",
            "images",
            *headings,
            "ms per image",
        ),
        rows=tuple(_result_line(row, scores) for row in rows),
        text_columns=5,
        links=tuple(f"task-metrics-{anchor(row.variant)}" for row in rows),
    )


def steps_table(rows: Sequence[Row], score: str = "fid") -> Table:
    """Return one score without guidance, a line for each step count, a column for each model."""
    plain = [row for row in rows if not row.guided]
    models = tuple(dict.fromkeys(row.model for row in plain))
    cells = {(row.steps, row.model): score_text(row, score) for row in reversed(plain)}
    steps = sorted({row.steps for row in plain})
    sources = {
        (str(r.steps), r.model): f"task-metrics-{anchor(r.variant)}" for r in reversed(plain)
    }
    return Table(
        name=f"{score}_by_steps",
        caption=f"{_HEADINGS.get(score, score)} without guidance, by total steps; ± one standard "
        "error by a bootstrap over images.",
        header=("steps", *models),
        rows=tuple((str(n), *(cells.get((n, m), NOTHING) for m in models)) for n in steps),
        text_columns=0,
        cell_links=sources,
    )


def _result_line(row: Row, scores: Sequence[str]) -> tuple[str, ...]:
    seconds = row.seconds_per_image
    return (
        row.model,
        " ".join(map(str, row.schedule.sizes)),
        " ".join(map(str, row.schedule.blocks_per_scale)),
        allocation_of(row.schedule),
        f"{row.cfg:g} from step {row.cfg_start_step}" if row.guided else "off",
        str(row.steps),
        str(row.images),
        *(score_text(row, score) for score in scores),
        NOT_RUN if seconds is None else number(1000 * seconds),
    )


def models_table(preset: Preset, trained: Mapping[str, Mapping[str, Any] | None]) -> Table:
    """Return one line per model: its architecture and what its training measured."""
    lines = []
    for name, run in preset.models.items():
        model, results = run.model, trained[name]
        counts = (model.width, model.layers, model.heads, model.mixing_layers)
        fixed = (name, " ".join(map(str, preset.sizes(name))), *map(str, counts))
        lines.append(fixed + _training_cells(results))
    return Table(
        name="models",
        caption="The models. The loss is the mean of the last tenth of the log, nats per token; "
        "released weights have no log.",
        header=(
            "model",
            "scales",
            "width",
            "layers",
            "heads",
            "mixing layers",
            "weights (M)",
            "iterations",
            "loss",
        ),
        rows=tuple(lines),
        text_columns=2,
        links=tuple(f"task-train-{anchor(name)}" for name in preset.models),
    )


def _training_cells(results: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Return a model's weights in millions, iterations and loss."""
    if results is None:
        return NOT_RUN, NOT_RUN, NOT_RUN
    weights = f"{results['parameters'] / 1e6:.3f}"
    if "released" in results:
        return weights, "released", NOTHING
    return weights, str(results["iterations"]), f"{results['loss']:.4f}"


def scales_table(results: Mapping[str, Any]) -> Table:
    """Return the tokenizer's measurements by scale; results that are not by scale are left out.

    A requantized one has each of LlamaGen's own codebook (`_before`) beside that of the new one.
    """
    by_scale = {name: found for name, found in results.items() if _is_by_scale(found)}
    sizes = sorted({int(size) for found in by_scale.values() for size in found})
    return Table(
        name="tokenizer",
        caption=f"The tokenizer on {results.get('measured_on', 'held-out images')}, by scale.",
        header=("scale", *(_scale_heading(name, by_scale) for name in by_scale)),
        rows=tuple(
            (f"{n}×{n}", *(_text(found.get(str(n), NOTHING)) for found in by_scale.values()))
            for n in sizes
        ),
        links=("task-tokenizer-all",) * len(sizes),
    )


def stages_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return every result of some stages: stage, what, value."""
    lines = [
        (stage, name.replace("_", " "), _text(value))
        for stage, own in results.items()
        for name, value in own.items()
    ]
    return Table(
        name="facts",
        caption="Results of the stages that all models share.",
        header=("stage", "what", "value"),
        rows=tuple(lines),
        text_columns=3,
        links=tuple(f"task-{line[0]}-all" for line in lines),
    )


def _scale_heading(name: str, by_scale: Mapping[str, Any]) -> str:
    """Return a measurement's name, with `after` where there is the same before."""
    after = " after" if f"{name}_before" in by_scale else ""
    return name.replace("_", " ") + after


def _is_by_scale(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(str(k).isdigit() for k in value)


def _text(value: Any) -> str:
    """Return a result as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return number(value) if isinstance(value, float) else str(value)


def score_text(row: Scored, score: str) -> str:
    """Return a score as people read it, with its standard error if it has one."""
    if not row.was_run:
        return NOT_RUN
    value, error = row.scores.get(score), row.scores.get(f"{score}_std")
    if value is None:
        return NOTHING
    if score in ("precision", "recall", "agreement"):
        return f"{value:.3f}"
    return number(value) if error is None else f"{number(value)} ± {error:.2g}"


def number(value: float) -> str:
    """Return a number with four digits or its whole part, never in powers of ten."""
    if value and abs(value) < 0.001:
        return f"{value:.6f}"
    whole = len(str(int(abs(value))))
    return f"{value:.{max(0, 4 - whole)}f}"


def anchor(name: str) -> str:
    """Return a name as it may stand in an address on the page."""
    return name.replace("/", "-").replace(".", "_")


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    rules = ["---" if k < table.text_columns else "---:" for k in range(len(table.header))]
    lines = [table.header, tuple(rules), *table.rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{body}\n\n{table.caption}\n"


def csv_text(table: Table) -> str:
    """Return a table as CSV, cells as people read them."""
    return _csv(table.header, table.rows)


def latex(table: Table) -> str:
    """Return a table as LaTeX for the package booktabs."""
    columns = "l" * table.text_columns + "r" * (len(table.header) - table.text_columns)
    lines = [" & ".join(map(_tex, line)) + r" \\" for line in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.caption)}}}",
            rf"\label{{tab:{table.name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_tex, table.header)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([header, *rows])
    return buffer.getvalue()
