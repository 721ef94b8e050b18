"""Job records: what was submitted for a unit, from submission until it is done. No torch.

A record is how a new head process finds the jobs of one that died. It stands in
``.pcb/jobs/PRESET/STAGE/VARIANT.json``, and names a folder that no other submission shares: job ids
come round again.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pcb.atomic import write_atomic
from pcb.pipeline import Unit

JOBS = Path(".pcb") / "jobs"


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """One job: which share of the unit's shards it makes."""

    job_id: str
    folder: str
    share: tuple[int, int]
    """(i, n): every n-th shard from i on; (0, 1) is the whole unit."""
    tries: int = 1


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one unit."""

    unit: str
    preset: str
    key: str
    jobs: tuple[Submitted, ...]


def record_path(unit: Unit) -> Path:
    """Return where a unit's record stands."""
    return JOBS / unit.preset / unit.stage / f"{unit.variant}.json"


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is none or it is not readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_record(unit: Unit, record: Record) -> None:
    """Write a unit's record, whole or not at all."""
    write_atomic(record_path(unit), msgspec.json.format(msgspec.json.encode(record)))


def remove_record(unit: Unit) -> None:
    """Forget a unit's jobs."""
    record_path(unit).unlink(missing_ok=True)


def all_records() -> Iterator[Record]:
    """Yield the records in this folder."""
    for path in sorted(JOBS.rglob("*.json")):
        record = read_record(path)
        if record is not None:
            yield record
