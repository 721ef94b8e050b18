"""Building a report: tables, figures, verdicts and the page, from what the other stages made."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from pcb.config import ImageFolder, ImageNet, Photographs
from pcb.config.images import PICTURES
from pcb.config.loader import plain
from pcb.pipeline.task import Task
from pcb.report.ablations import blocks_table, guidance_table, mixing_table
from pcb.report.claims import decide
from pcb.report.evidence import Evidence
from pcb.report.figures import plot_figures, plot_order_study
from pcb.report.grids import picture_grids
from pcb.report.likelihood_figures import plot_likelihood
from pcb.report.likelihood_tables import likelihood_table, price_table
from pcb.report.order_study import compare_orders, measured, orders_table, verdict
from pcb.report.page import FigureView, Page, TaskView, render
from pcb.report.plot import Plot
from pcb.report.published import published_table
from pcb.report.rows import Row, scores_json
from pcb.report.seeds import likelihood_seeds_table, over_seeds, seeds_table
from pcb.report.style import KINDS, figure_bytes, inline_svg
from pcb.report.tables import (
    Table,
    anchor,
    csv_text,
    latex,
    markdown,
    metrics_csv,
    models_table,
    results_table,
    scales_table,
    stages_table,
    steps_table,
)
from pcb.report.times import Times, read_times
from pcb.report.verdict import Claim, claims_json
from pcb.runtime.atomic import write_atomic

WRITTEN = (
    *("results", "fid_by_steps", "price_by_steps", "likelihood"),
    *("table1", "guidance", "mixing", "blocks", "models"),
    *("orders", "seeds", "likelihood_seeds"),
)
"""Tables that are also files, for use in a paper."""
_NAMED = 20
"""Most classes that are named."""


def write_report(evidence: Evidence, folder: Path) -> Mapping[str, Any]:
    """Write the report of what there is, whole or partial, and return its verdicts.

    The same evidence gives the same bytes.
    """
    rows, schedules, times = evidence.rows(), evidence.schedules(), read_times()
    claims = decide(
        rows,
        evidence.preset.claims,
        schedules=schedules,
        comparable=evidence.comparable,
        times=times,
    )
    likelihoods, shown = list(measured(evidence)), over_seeds(rows)
    orders = compare_orders(likelihoods)
    studies = (
        *(price_table(schedules), likelihood_table(schedules)),
        *(orders_table(orders), seeds_table(rows), likelihood_seeds_table(likelihoods)),
    )
    tables = {**_tables(evidence, rows, times), **{table.name: table for table in studies}}
    write_atomic(folder / "metrics.csv", metrics_csv(rows))
    write_atomic(folder / "metrics.json", json.dumps(scores_json(rows), indent=1) + "\n")
    write_atomic(folder / "claims.json", json.dumps(claims_json(claims), indent=1) + "\n")
    for name in WRITTEN:
        _write_table(tables[name], folder / "tables")
    plots = (
        *plot_likelihood(schedules),
        *plot_figures(evidence, shown, times),
        *plot_order_study(orders),
    )
    figures = [_write_figure(plot, folder / "figures") for plot in plots]
    grids = []
    for grid in picture_grids(evidence, shown):
        write_atomic(folder / "figures" / f"{grid.name}.png", grid.png())
        gif = grid.gif()
        if gif is not None:
            write_atomic(folder / "figures" / f"{grid.name}.gif", gif)
        grids.append(grid.view())
    page = Page(
        preset=evidence.pipeline.name,
        description=evidence.preset.description.rstrip("."),
        missing=_missing(evidence, rows),
        scores_note=_scores_note(evidence),
        labels_note=_labels_note(evidence),
        comparable_note=_comparable_note(evidence),
        tokenizer_note=_tokenizer_note(evidence),
        orders_note=verdict(orders),
        metrics=Markup(metrics_csv(rows)),
        claims=claims,
        figures=figures,
        grids=grids,
        tables=tables,
        tasks=[_task_view(evidence, task) for task in evidence.tasks],
        settings=_settings_text(evidence),
    )
    write_atomic(folder / "index.html", render(page))
    return {**_summary(rows, claims), **({"orders": verdict(orders)} if orders else {})}


def _tables(evidence: Evidence, rows: Sequence[Row], times: Times) -> dict[str, Table]:
    """Return the page's tables by name."""
    trained = {name: evidence.results("train", name) for name in evidence.preset.models}
    parameters = {
        name: int(results["parameters"]) for name, results in trained.items() if results is not None
    }
    shared = {
        task.stage: manifest.results
        for task in evidence.tasks
        for manifest in [evidence.manifest(task)]
        if task.variant == "all" and manifest is not None
    }
    systems = evidence.system_rows()
    variants = [*(row.variant for row in rows), *(row.variant for row in systems)]
    tables = (
        results_table(rows),
        steps_table(rows),
        published_table(
            rows,
            parameters,
            comparable=evidence.comparable,
            steps=evidence.preset.claims.compare_steps,
            sampled_on={name: evidence.sampled_on(name) for name in variants},
            systems=systems,
            times=times,
        ),
        scales_table(shared.get("tokenizer", {})),
        models_table(evidence.preset, trained),
        stages_table(shared),
        guidance_table(rows),
        mixing_table(rows),
        blocks_table(rows),
    )
    return {table.name: table for table in tables}


def _write_table(table: Table, folder: Path) -> None:
    """Write a table as Markdown, CSV and LaTeX."""
    write_atomic(folder / f"{table.name}.md", markdown(table))
    write_atomic(folder / f"{table.name}.csv", csv_text(table))
    write_atomic(folder / f"{table.name}.tex", latex(table))


def _write_figure(plot: Plot, folder: Path) -> FigureView:
    """Write a figure as SVG and PNG, and return it as the page shows it."""
    files = {kind: figure_bytes(plot.figure, kind) for kind in KINDS}
    for kind, data in files.items():
        write_atomic(folder / f"{plot.name}.{kind}", data)
    svg = inline_svg(files["svg"].decode(), plot.name, f"{plot.title}. {plot.caption}")
    return FigureView(
        name=plot.name,
        section=plot.section,
        title=plot.title,
        caption=plot.caption,
        svg=Markup(svg),
        wide=plot.wide,
    )


def _task_view(evidence: Evidence, task: Task) -> TaskView:
    """Return where a task's result comes from."""
    manifest = evidence.manifest(task)
    label = f"task-{task.stage}-{anchor(task.variant)}"
    if manifest is None:
        return TaskView(name=task.name, anchor=label, key=task.key)
    born = manifest.provenance
    return TaskView(
        name=task.name,
        anchor=label,
        key=task.key,
        content=manifest.content,
        seconds=f"{born.seconds:.1f}",
        commit=(born.commit or "unknown")[:12] + (" (modified)" if born.modified else ""),
        machine=", ".join(f"{name} {value}" for name, value in sorted(born.machine.items())),
    )


def _missing(evidence: Evidence, rows: Sequence[Row]) -> str:
    """Say how much was not run; nothing if all of it was."""
    absent = [task.name for task in evidence.tasks if evidence.manifest(task) is None]
    if not absent:
        return ""
    absent_rows = sum(not row.was_run for row in rows)
    return (
        f"{absent_rows} of {len(rows)} sampling configs and {len(absent)} of "
        f"{len(evidence.tasks)} results are not run; what is missing is marked so."
    )


def _settings_text(evidence: Evidence) -> str:
    """Return the preset as YAML, without the paths of this machine, which decide nothing."""
    settings = {k: v for k, v in plain(evidence.preset).items() if k != "files"}
    return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _scores_note(evidence: Evidence) -> str:
    """Say what the scores were computed with."""
    images, extractor = evidence.preset.sampling.images, evidence.preset.metrics.extractor
    against = {
        "classifier": "a reference set that no model has seen",
        "inception": "the training set's statistics in ADM's reference file",
    }
    return (
        f"Features come from the extractor “{extractor}”; every sample set has {images:,} images, "
        f"compared with {against[extractor]}."
    )


def _labels_note(evidence: Evidence) -> str:
    """Say which class an image shows; those of a folder and of photographs have names."""
    data = evidence.preset.data
    names = PICTURES if isinstance(data, Photographs) else evidence.class_names() or ()
    named = ", ".join(f"{label} {name}" for label, name in enumerate(names[:_NAMED]))
    more = ", …" if len(names) > _NAMED else ""
    return f"Image i shows class i mod {data.num_classes}" + (f": {named}{more}." if named else ".")


def _comparable_note(evidence: Evidence) -> str:
    """Say whether measured numbers may stand beside the paper's."""
    if evidence.comparable:
        return "Measured cells are of ImageNet 256×256, as are the published ones."
    side = evidence.preset.data.image_size
    if isinstance(evidence.preset.data, ImageFolder):
        return (
            f"The paper's experiments were not run here. This preset samples images like those "
            f"of a folder of one's own, at {side}×{side}, and scores them with the features of a "
            "small classifier trained on that folder: no number of it can be compared with a "
            "published one. Its rows stand last and only show what was measured."
        )
    if isinstance(evidence.preset.data, ImageNet):
        images = evidence.preset.sampling.images
        return (
            f"The paper's experiments were not run here. This preset scores {images:,} images of "
            f"{evidence.preset.data.num_classes:,} classes at {side}×{side}: no number of it can "
            "be compared with a published one. Its rows stand last and only show what was measured."
        )
    shown = "crops of photographs" if isinstance(evidence.preset.data, Photographs) else "digits"
    return (
        f"The paper's experiments were not run here. This preset samples {side}×{side} {shown} and "
        f"scores them with the features of a small classifier trained on {shown}: its FID, IS, "
        "precision and recall are on another scale, and no number of it can be compared with a "
        "published one. Its rows stand last and only show what was measured. What can be compared "
        "is the shape of the curves."
    )


def _tokenizer_note(evidence: Evidence) -> str:
    """Say whose tokenizer it is, where it is not the preset's own; nothing if it was not made."""
    if evidence.results("tokenizer") is None or evidence.preset.tokenizer.source != "released":
        return ""
    return "The authors' tokenizer, as it was released; it was not measured here."


def _summary(rows: Sequence[Row], claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "verdicts": {claim.name: claim.verdict for claim in claims},
        "settings": len(rows),
        "settings_run": sum(row.was_run for row in rows),
    }
