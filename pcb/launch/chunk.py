"""Several tasks in one job, to save queueing: controllers that ask at the same time share it.

A controller that needs a job writes a record without jobs, which says so, and queues for the
stage's lock. Whoever has it waits a moment for others, submits one job for as many tasks as the
settings allow, and writes it into the records of all; the others find it there. So no job makes a
task that nobody asked for, and everything else - watching, finding again, trying again - is each
task's own.
"""

import time

from pcb.config.cluster import Cluster
from pcb.config.paths import JOBS
from pcb.errors import UserError
from pcb.launch.record import Record, Submitted, all_records, read_record
from pcb.launch.submit import announce, submit
from pcb.launch.work import Chunk, Work
from pcb.pipeline.job import ALL_SHARDS
from pcb.runtime.lock import hold, is_held

_PATIENCE = 10.0
"""Seconds that a job waits for tasks that may share it."""


def submit_together(asking: Record, cluster: Cluster) -> tuple[Submitted, ...]:
    """Return the job of a task whose controller holds its lock: its own, or one that others share.

    Raises UserError if the cluster refuses it.
    """
    asking.write()
    with hold(JOBS / asking.preset / f"{asking.stage}.lock", None):
        found = read_record(asking.path)
        if found is not None and found.jobs:
            return found.jobs
        records = _gather(asking, cluster.resources(asking.stage).chunk)
        tasks = tuple(record.task for record in records) if len(records) > 1 else ()
        jobs = announce(asking, [ALL_SHARDS], tasks=tasks)
        _write(records, jobs)
        works = tuple(Work.on(record) for record in records)
        work = Chunk(works=works, tasks=tasks, folder=jobs[0].folder) if tasks else works[0]
        try:
            jobs = submit(asking.stage, jobs, [work], cluster)
        except UserError:
            # The others ask again, each for itself.
            _write(records[1:], ())
            asking.remove()
            raise
        _write(records, jobs)
        return jobs


def _gather(own: Record, most: int) -> list[Record]:
    """Return this record and others that wait for a job, at most so many, after a while."""
    limit = time.monotonic() + _PATIENCE
    while True:
        others = [
            record
            for record in all_records(JOBS / own.preset / own.stage)
            if not record.jobs and record.path != own.path and is_held(record.lock)
        ]
        if len(others) + 1 >= most or time.monotonic() > limit:
            return [own, *others[: most - 1]]
        time.sleep(0.2)


def _write(records: list[Record], jobs: tuple[Submitted, ...]) -> None:
    for record in records:
        record.with_jobs(jobs).write()
