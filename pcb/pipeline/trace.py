"""`pcb trace`: the tasks behind a number, back to the images. No torch."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from pcb.config.paths import REPORTS
from pcb.errors import UserError
from pcb.pipeline.task import Task
from pcb.pipeline.tasks import Pipeline
from pcb.pipeline.verify import Finding, verify


def task_of(pipeline: Pipeline, target: str) -> Task:
    """Return the task that a target names.

    A target is a task's name (``metrics/ratio2/t17``), a manifest, a file or folder of a result,
    or a row of a report's table (``reports/mini/metrics.csv:3``, the first row below the header
    being 1). Raises UserError if nothing fits.
    """
    file, _, row = target.rpartition(":")
    if file.endswith(".csv"):
        return _task_of_row(pipeline, Path(file), row)
    path = Path(target)
    for task in pipeline:
        if target in (task.name, str(task.manifest)) or path.is_relative_to(task.artifact):
            return task
    raise UserError(
        f"{target}: no task of preset {pipeline.name} has this name or file; a task is called as "
        f"in metrics/ratio2/t17, a row as in {REPORTS / pipeline.name / 'metrics.csv'}:1"
    )


def _task_of_row(pipeline: Pipeline, table: Path, row: str) -> Task:
    """Return the metrics task of a row of metrics.csv, whose rows are in the pipeline's order."""
    expected = REPORTS / pipeline.name / "metrics.csv"
    if table != expected:
        raise UserError(f"{table}: rows can be traced in {expected} alone")
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{table}: no such file; make it with `make reproduce`") from None
    if not row.isdecimal() or not 1 <= int(row) <= len(rows):
        raise UserError(f"{table}: row {row!r} is not one of 1 to {len(rows)}")
    variants = pipeline.variants("metrics")
    model = variants[int(row) - 1].partition("/")[0] if len(variants) == len(rows) else None
    if model != rows[int(row) - 1]["model"]:
        raise UserError(f"{table}: made from other settings than params.yaml has; make it again")
    return pipeline.task("metrics", variants[int(row) - 1])


def ancestors(pipeline: Pipeline, task: Task) -> list[Task]:
    """Return a task and all that it was made from, each before what it reads."""
    needed = {task.name}
    found = []
    for candidate in reversed(list(pipeline)):
        if candidate.name in needed:
            found.append(candidate)
            needed |= {read.task.name for read in candidate.inputs}
    return found


def print_trace(pipeline: Pipeline, task: Task) -> int:
    """Print the chain behind a task; the status is 1 if some of it is not as it should be."""
    findings = verify(pipeline, ancestors(pipeline, task))
    for found in findings:
        print("\n".join(_lines(found)))
    bad = [found for found in findings if not found.current]
    if bad:
        print(f"{len(bad)} of {len(findings)} do not match: {bad[0].task.name} is {bad[0].state}")
    else:
        print(f"all {len(findings)} match what lies on disk")
    return 1 if bad else 0


def _lines(found: Finding) -> Iterator[str]:
    """Yield what there is to say of one task."""
    yield f"{found.task.name}  [{found.state}]{' ' if found.reason else ''}{found.reason}"
    manifest = found.manifest
    if manifest is None:
        return
    born = manifest.provenance
    code = "unknown code" if born.commit is None else f"code {born.commit[:12]}"
    changed = ", modified" if born.modified else ""
    size = sum(file.bytes for file in manifest.files.values())
    yield f"    content   {manifest.content}  ({len(manifest.files)} files, {size:,} bytes)"
    yield f"    key       {manifest.key}"
    yield f"    settings  {json.dumps(manifest.settings, sort_keys=True)}"
    for read in manifest.inputs:
        yield f"    read      {read.name}  {read.content}"
    yield f"    made by   {code}{changed}; {_packages(born.packages)}"
    yield f"    on        {', '.join(f'{k} {v}' for k, v in born.machine.items())}"
    yield f"    finished  {born.finished}, in {born.seconds:.1f} s"
    yield f"    results   {json.dumps(manifest.results, sort_keys=True)}"


def _packages(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
