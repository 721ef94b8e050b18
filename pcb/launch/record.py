"""Job records: what was submitted for a task, from before submission until it is done. No torch.

A record is how a new controller finds the jobs of one that died. It stands in
``.pcb/jobs/PRESET/STAGE/VARIANT.json``, and names a folder that no other submission shares: job ids
are used again. It is written before the cluster is asked, with the name that the job will have in
the queue, and again with the job's id: a controller that dies in between leaves a name to look for.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pcb.config.paths import JOBS
from pcb.pipeline.job import ShardGroup
from pcb.pipeline.task import Task, TaskName
from pcb.runtime.atomic import whole_files, write_atomic


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """One job: which of the task's shards it makes."""

    name: str
    """Its name in the queue, which no other submission has."""
    job_id: str = ""
    """Empty until the cluster has answered."""
    folder: str
    shards: ShardGroup
    tries: int = 1
    tasks: tuple[str, ...] = ()
    """Names of the tasks that it makes one after another, if they are several."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one task. Without jobs, a controller asks for one (`pcb.launch.chunk`)."""

    preset: str
    stage: str
    variant: str
    key: str
    jobs: tuple[Submitted, ...] = ()

    @classmethod
    def of(cls, task: Task, jobs: tuple[Submitted, ...] = ()) -> "Record":
        """Return the record of a task."""
        return cls(
            preset=task.preset, stage=task.stage, variant=task.variant, key=task.key, jobs=jobs
        )

    @property
    def task(self) -> str:
        """The task's name: `train/ratio2`."""
        return TaskName(preset=self.preset, stage=self.stage, variant=self.variant).name

    @property
    def path(self) -> Path:
        """Where it stands."""
        return JOBS / self.preset / self.stage / f"{self.variant}.json"

    @property
    def lock(self) -> Path:
        """What the task's controller holds."""
        return self.path.with_suffix(".lock")

    def with_jobs(self, jobs: tuple[Submitted, ...]) -> "Record":
        """Return the same task's record with these jobs."""
        return msgspec.structs.replace(self, jobs=jobs)

    def write(self) -> None:
        """Write it, whole or not at all."""
        write_atomic(self.path, msgspec.json.format(msgspec.json.encode(self)))

    def remove(self) -> None:
        """Forget the task's jobs."""
        self.path.unlink(missing_ok=True)


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is none or it is not readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def all_records(folder: Path = JOBS) -> Iterator[Record]:
    """Yield the records below a folder."""
    for path in whole_files(folder, "**/*.json"):
        record = read_record(path)
        if record is not None:
            yield record
