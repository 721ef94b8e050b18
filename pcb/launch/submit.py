"""Submission through submitit: settings become a job, under a name that is known before it."""

import logging
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import submitit
from submitit.core.utils import DelayedSubmission, FailedJobError

from pcb.config.cluster import Cluster, Resources
from pcb.config.paths import JOBS
from pcb.errors import UserError
from pcb.launch.record import Record, Submitted
from pcb.launch.split import ranks_per_node
from pcb.pipeline.job import ShardGroup
from pcb.pipeline.task import Task

# Without this every poll prints warnings where there is no accounting.
logging.getLogger("submitit").propagate = False

_REQUEUES = 100
"""How often a job may reach its time limit."""


def announce(
    about: Task | Record,
    groups: Sequence[ShardGroup],
    tries: int = 1,
    *,
    tasks: tuple[str, ...] = (),
) -> tuple[Submitted, ...]:
    """Return jobs as they go on record before they are submitted: named, without an id."""
    mark = uuid4().hex[:8]
    label = f"{about.stage}/{'chunk' if tasks else about.variant}"
    return tuple(
        Submitted(
            name=f"pcb-{label.removesuffix('/all').replace('/', '-')}-{mark}",
            # Never shared with another submission: ids come round, and results would be mixed up.
            folder=str((JOBS / about.preset / f"{label}-{mark}").resolve()),
            shards=shards,
            tries=tries,
            tasks=tasks,
        )
        for shards in groups
    )


def submit(
    stage: str, jobs: Sequence[Submitted], works: Sequence[Callable[[], object]], cluster: Cluster
) -> tuple[Submitted, ...]:
    """Submit announced jobs, as one array if there are several, and return them with their ids.

    Raises UserError with the cluster's own words if it refuses.
    """
    name, folder = jobs[0].name, Path(jobs[0].folder)
    told = parameters(stage, cluster, name, folder)
    executor = submitit.SlurmExecutor(folder, max_num_timeout=_REQUEUES, python=cluster.python)
    executor.update_parameters(**told)
    folder.mkdir(parents=True)
    for index, work in enumerate(works):
        delayed = DelayedSubmission(work)
        delayed.set_timeout(told["time"], _REQUEUES)
        delayed.dump(folder / f"work-{index}.pkl")
    try:
        with _outside_any_job(), executor.batch():
            found = [executor.submit(work) for work in works]
    except (FailedJobError, FileNotFoundError) as error:
        words = str(error).strip().splitlines()
        raise UserError(
            f"{name}: the cluster refused the job: {words[-1] if words else error}; see "
            f"`cluster` in params.yaml and params.local.yaml"
        ) from None
    return numbered(jobs, str(found[0].job_id).partition("_")[0])


def numbered(jobs: Sequence[Submitted], job_id: str) -> tuple[Submitted, ...]:
    """Return the jobs of one submission with the ids that they have in the queue."""
    ids = [f"{job_id}_{k}" for k in range(len(jobs))] if len(jobs) > 1 else [job_id]
    return tuple(
        msgspec.structs.replace(job, job_id=own) for job, own in zip(jobs, ids, strict=True)
    )


def parameters(stage: str, cluster: Cluster, name: str, folder: Path) -> dict[str, Any]:
    """Return what submitit's SlurmExecutor is told for a job of a stage."""
    resources = cluster.resources(stage)
    found: dict[str, Any] = {
        "job_name": name,
        "time": max(1, round(60 * resources.hours)),
        "nodes": resources.nodes,
        "ntasks_per_node": ranks_per_node(stage, resources),
        "cpus_per_task": resources.cpus,
        "signal_delay_s": cluster.signal_seconds,
        "array_parallelism": cluster.array_parallelism,
        # One process that died would leave the others waiting for it until the time is up. And
        # Slurm 22.05 to 23.02 does not pass on to srun how many CPUs sbatch was told.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus}"],
        "setup": [*cluster.setup, *_take_work(folder)],
        **_asked(resources),
    }
    if cluster.sbatch:
        found["additional_parameters"] = dict(cluster.sbatch)
    for name in ("partition", "account", "qos", "constraint"):
        value = getattr(cluster, name)
        if value is not None:
            found[name] = value
    return found


def _asked(resources: Resources) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    if resources.gpus:
        asked["gpus_per_node"] = resources.gpus
    if resources.memory_gb is not None:
        asked["mem"] = f"{round(1024 * resources.memory_gb)}M"
    return asked


def _take_work(folder: Path) -> list[str]:
    """Return the shell lines by which a job takes up its work, unless it did before a requeue.

    submitit hands work over once the cluster has answered, which who submits may not live to do.
    """
    element = "${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"
    return [
        f"here={shlex.quote(str(folder))}",
        f"taken={element}",
        'taken="$here/${taken:-$SLURM_JOB_ID}_submitted.pkl"',
        '[ -e "$taken" ] || cp "$here/work-${SLURM_ARRAY_TASK_ID:-0}.pkl" "$taken"',
    ]


@contextmanager
def _outside_any_job() -> Iterator[None]:
    """Submit as from a login node, also from inside a job; keep which Slurm the user talks to."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("SLURM_CONF", "SLURM_CLUSTERS") or name.startswith("SBATCH_")
    }
    with submitit.helpers.clean_env():
        os.environ.update(kept)
        yield
