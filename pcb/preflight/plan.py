"""`pcb plan`: what a preset will take, printed before anything runs. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pcb.pipeline.stages import STAGES
from pcb.pipeline.staleness import read_manifests, why_stale
from pcb.pipeline.tasks import Input, Pipeline
from pcb.preflight.cost import checkpoint_bytes, cost_of, hours
from pcb.preflight.doctor import file_findings
from pcb.preflight.rates import Device

_HEADER = ("stage", "tasks", "to make", "GPU hours", "GB on disk")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the tasks of one stage take; hours are of those that are still to be made."""

    stage: str
    tasks: int
    left: int
    hours: float
    bytes: int


def print_plan(pipeline: Pipeline, device: Device, gpus: int) -> int:
    """Print the table, where its numbers come from and what is missing; return 0."""
    lines, sources = forecast(pipeline, device)
    total = sum(line.hours for line in lines)
    print(f"preset {pipeline.name}: {pipeline.preset.description}\n")
    print("\n".join(_table(lines)))
    print(f"\nHours of one {device.name}:")
    for kind, source in sorted(sources.items()):
        print(f"  {kind}: {source}")
    print(
        f"On {gpus} of them, at best: {_short(total / gpus)} hours "
        f"({_short(total / gpus / 24)} days); decoding of JPEGs and queueing are not in it."
    )
    largest = checkpoint_bytes(pipeline.preset)
    if largest:
        print(f"While a model trains, its checkpoint takes up to {largest / 1e9:.1f} GB more.")
    missing = list(missing_files(pipeline))
    print("\nmissing:" if missing else "\nNothing from outside is missing.")
    for thing in missing:
        print(f"  {thing}")
    return 0


def forecast(pipeline: Pipeline, device: Device) -> tuple[list[Line], dict[str, str]]:
    """Return a line for each stage, and for each kind of work where its rate comes from.

    Raises UserError for a device of which nothing is known.
    """
    manifests = read_manifests(pipeline)
    stale = {task.name for task in pipeline if why_stale(Input(task=task), manifests)}
    costs = {task.name: cost_of(task, pipeline.preset) for task in pipeline}
    lines: list[Line] = []
    sources: dict[str, str] = {}
    for stage in STAGES:
        tasks = [task for task in pipeline if task.stage == stage]
        spent = 0.0
        for task in tasks:
            works = costs[task.name].works
            time, rates = hours(works, device)
            sources |= {w.kind: r.source for w, r in zip(works, rates, strict=True)}
            spent += time if task.name in stale else 0.0
        if tasks:
            lines.append(
                Line(
                    stage=stage,
                    tasks=len(tasks),
                    left=sum(task.name in stale for task in tasks),
                    hours=spent,
                    bytes=sum(costs[task.name].bytes for task in tasks),
                )
            )
    return lines, sources


def missing_files(pipeline: Pipeline) -> Iterator[str]:
    """Say of everything from outside that a preset reads and that is not whole what to do."""
    for finding in file_findings(pipeline):
        if finding.problem is not None:
            yield f"{finding.thing}: {finding.found}; {finding.problem}"


def _table(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the table's lines, the last one the total."""
    total = Line(
        stage="total",
        tasks=sum(line.tasks for line in lines),
        left=sum(line.left for line in lines),
        hours=sum(line.hours for line in lines),
        bytes=sum(line.bytes for line in lines),
    )
    yield "{:<12}{:>7}{:>9}{:>12}{:>12}".format(*_HEADER)
    for line in (*lines, total):
        gigabytes, time = _short(line.bytes / 1e9), _short(line.hours)
        yield f"{line.stage:<12}{line.tasks:>7}{line.left:>9}{time:>12}{gigabytes:>12}"


def _short(value: float) -> str:
    """Return a number with two digits at least, `-` for nothing."""
    if not value:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"
