"""`pcb plan`: what a preset will take, printed before anything runs. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pcb.config import Preset
from pcb.pipeline.staleness import read_manifests, why_stale
from pcb.pipeline.tasks import VERSIONS, Input, Pipeline, Unit
from pcb.preflight.cost import bytes_of, checkpoint_bytes, model_of
from pcb.preflight.doctor import file_findings
from pcb.preflight.duration import shared_training, time_of
from pcb.preflight.rates import Device, Range

_HEADER = ("stage", "units", "to make", "GPU hours", "GB on disk")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the units of one stage take; seconds are of those that are still to be made."""

    stage: str
    units: int
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
    missing = list(missing_files(pipeline))
    print("\nmissing:" if missing else "\nNothing from outside is missing.")
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
    for stage in VERSIONS:
        units = [unit for unit in pipeline if unit.stage == stage]
        spent = Range()
        for unit in units:
            seconds, found = time_of(unit, pipeline.preset, device)
            sources |= found
            spent += seconds if unit in left else Range()
        if units:
            lines.append(_line(stage, units, left, spent, pipeline.preset))
    return lines, sources


def shared(pipeline: Pipeline, lines: Sequence[Line], device: Device, gpus: int) -> Range:
    """Return the seconds that several devices take, shards and units dealt out evenly."""
    if gpus == 1:
        return _total(lines).seconds
    models = [model_of(unit) for unit in _stale(pipeline) if unit.stage == "train"]
    others = _total([line for line in lines if line.stage != "train"]).seconds
    return others * (1 / gpus) + shared_training(pipeline.preset, models, device, gpus)


def missing_files(pipeline: Pipeline) -> Iterator[str]:
    """Say of everything from outside that a preset reads and that is not whole what to do."""
    for finding in file_findings(pipeline):
        if finding.problem is not None:
            yield f"{finding.thing}: {finding.found}; {finding.problem}"


def _stale(pipeline: Pipeline) -> list[Unit]:
    manifests = read_manifests(pipeline)
    return [unit for unit in pipeline if why_stale(Input(unit=unit), manifests)]


def _line(
    stage: str, units: Sequence[Unit], left: Sequence[Unit], spent: Range, preset: Preset
) -> Line:
    return Line(
        stage=stage,
        units=len(units),
        left=sum(unit in left for unit in units),
        seconds=spent,
        bytes=sum(bytes_of(unit, preset) for unit in units),
    )


def _total(lines: Sequence[Line]) -> Line:
    return Line(
        stage="total",
        units=sum(line.units for line in lines),
        left=sum(line.left for line in lines),
        seconds=sum((line.seconds for line in lines), Range()),
        bytes=sum(line.bytes for line in lines),
    )


def _table(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the table's lines, the last one the total."""
    yield "{:<12}{:>7}{:>9}{:>16}{:>12}".format(*_HEADER)
    for line in (*lines, _total(lines)):
        gigabytes, time = _short(line.bytes / 1e9), _hours(line.seconds)
        yield f"{line.stage:<12}{line.units:>7}{line.left:>9}{time:>16}{gigabytes:>12}"


def _hours(seconds: Range) -> str:
    """Return seconds in hours, with both ends where they differ."""
    low, high = _short(seconds.low / 3600), _short(seconds.high / 3600)
    return low if low == high else f"{low} to {high}"


def _short(value: float) -> str:
    """Return a number with two digits at least, `-` for nothing."""
    if not value:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"
