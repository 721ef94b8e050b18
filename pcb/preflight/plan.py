"""`pcb plan`: the cost of a preset, printed before anything runs. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pcb.config import Preset
from pcb.config.checks import untrained_blocks, unused_models
from pcb.config.stages import STAGES
from pcb.pipeline.staleness import read_manifests, why_stale
from pcb.pipeline.task import Input, Task
from pcb.pipeline.tasks import Pipeline
from pcb.preflight.cost import checkpoint_bytes, cost_of
from pcb.preflight.doctor import file_findings
from pcb.preflight.duration import shared_steps, time_of
from pcb.preflight.rates import Device, Range

_HEADER = ("stage", "tasks", "to make", "GPU hours", "GB on disk")
_ROW = "{:<10}  {:>5}  {:>7}  {:>16}  {:>10}"
"""Two spaces at least between columns, whatever is in them; one inside a range."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the tasks of one stage take; seconds are of those that are still to be made."""

    stage: str
    tasks: int
    left: int
    seconds: Range
    bytes: int


def print_plan(pipeline: Pipeline, device: Device, gpus: int) -> int:
    """Print the table, where its numbers come from and what is missing; return 0."""
    lines, sources = forecast(pipeline, device)
    print(f"preset {pipeline.name}: {pipeline.preset.description}\n")
    print("\n".join(_table(lines)))
    print(f"\nHours of one {device.name}, what is not arithmetic included; rates:")
    for kind, source in sorted(sources.items()):
        print(f"  {kind}: {source}")
    time = shared(pipeline, lines, device, gpus)
    print(
        f"On {gpus} of them: {_hours(time)} hours ({_hours(time * (1 / 24))} days); decoding of "
        "JPEGs, exchange of gradients and queueing are not in it."
    )
    largest = checkpoint_bytes(pipeline.preset)
    if largest:
        print(f"While a model trains, its checkpoint takes up to {largest / 1e9:.1f} GB more.")
    for doubt in (*unused_models(pipeline.preset), *untrained_blocks(pipeline.preset)):
        print(f"\nwarning: {doubt}")
    missing = list(missing_files(pipeline))
    print("\nmissing:" if missing else "\nNo external file is missing.")
    for thing in missing:
        print(f"  {thing}")
    return 0


def forecast(pipeline: Pipeline, device: Device) -> tuple[list[Line], dict[str, str]]:
    """Return a line for each stage, and for each kind of work where its rate comes from.

    Raises UserError for a device of which nothing is known.
    """
    lines: list[Line] = []
    sources: dict[str, str] = {}
    left = _stale(pipeline)
    for stage in STAGES:
        tasks = [task for task in pipeline if task.stage == stage]
        spent = Range()
        for task in tasks:
            seconds, found = time_of(task, pipeline.preset, device)
            sources |= found
            spent += seconds if task in left else Range()
        if tasks:
            lines.append(_line(stage, tasks, left, spent, pipeline.preset))
    return lines, sources


def shared(pipeline: Pipeline, lines: Sequence[Line], device: Device, gpus: int) -> Range:
    """Return the seconds that several devices take: those of ranked stages, others dealt out."""
    if gpus == 1:
        return _total(lines).seconds
    others = _total([line for line in lines if not STAGES[line.stage].ranked]).seconds
    ranked = (task for task in _stale(pipeline) if STAGES[task.stage].ranked)
    costs = [cost_of(task, pipeline.preset) for task in ranked]
    return others * (1 / gpus) + shared_steps(costs, device, gpus)


def missing_files(pipeline: Pipeline) -> Iterator[str]:
    """Say of every external file that a preset reads and that is not whole what to do."""
    for finding in file_findings(pipeline):
        if finding.problem is not None:
            yield f"{finding.thing}: {finding.found}; {finding.problem}"


def _stale(pipeline: Pipeline) -> list[Task]:
    manifests = read_manifests(pipeline)
    return [task for task in pipeline if why_stale(Input(task=task), manifests)]


def _line(
    stage: str, tasks: Sequence[Task], left: Sequence[Task], spent: Range, preset: Preset
) -> Line:
    return Line(
        stage=stage,
        tasks=len(tasks),
        left=sum(task in left for task in tasks),
        seconds=spent,
        bytes=sum(cost_of(task, preset).bytes for task in tasks),
    )


def _total(lines: Sequence[Line]) -> Line:
    return Line(
        stage="total",
        tasks=sum(line.tasks for line in lines),
        left=sum(line.left for line in lines),
        seconds=sum((line.seconds for line in lines), Range()),
        bytes=sum(line.bytes for line in lines),
    )


def _table(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the table's lines, the last one the total."""
    yield _ROW.format(*_HEADER)
    for line in (*lines, _total(lines)):
        gigabytes, time = _short(line.bytes / 1e9), _hours(line.seconds)
        yield _ROW.format(line.stage, line.tasks, line.left, time, gigabytes)


def _hours(seconds: Range) -> str:
    """Return seconds in hours, with both ends where they differ."""
    low, high = _short(seconds.low / 3600), _short(seconds.high / 3600)
    return low if low == high else f"{low} to {high}"


def _short(value: float) -> str:
    """Return a number with two digits at least, `-` for nothing."""
    if not value:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"
