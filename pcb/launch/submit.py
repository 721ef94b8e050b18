"""Submission through submitit: settings become a job, and a job is found again."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import submitit

from pcb.errors import UserError
from pcb.launch.record import JOBS, Submitted
from pcb.launch.work import Work
from pcb.pipeline import Unit
from pcb.settings.cluster import Cluster, Resources

# Without this every poll prints warnings where there is no accounting.
logging.getLogger("submitit").propagate = False


def submit(
    unit: Unit, works: Sequence[Work], cluster: Cluster, tries: Sequence[int]
) -> tuple[Submitted, ...]:
    """Submit jobs for a unit, as one array if there are several.

    Raises UserError with the cluster's own words if it refuses.
    """
    # Never shared with another submission: job ids come round again, and results would be mixed up.
    folder = (JOBS / unit.preset / unit.stage / f"{unit.variant}-{uuid4().hex[:8]}").resolve()
    executor = submitit.SlurmExecutor(folder=folder / "%j", max_num_timeout=100)
    executor.update_parameters(**parameters(unit, cluster))
    try:
        with _outside_any_job():
            if len(works) == 1:
                jobs: list[Any] = [executor.submit(works[0])]
            else:
                jobs = executor.map_array(_call, works)
    except (submitit.core.utils.FailedJobError, FileNotFoundError) as error:
        words = str(error).strip().splitlines()
        raise UserError(
            f"{unit.name}: the cluster refused the job: {words[-1] if words else error}; see "
            f"`cluster` in params.yaml and params.local.yaml"
        ) from None
    return tuple(
        Submitted(job_id=str(job.job_id), folder=str(folder / "%j"), share=work.share, tries=count)
        for job, work, count in zip(jobs, works, tries, strict=True)
    )


def parameters(unit: Unit, cluster: Cluster) -> dict[str, Any]:
    """Return what submitit's SlurmExecutor is told for a unit."""
    resources = cluster.resources(unit.stage)
    found: dict[str, Any] = {
        "job_name": f"pcb-{unit.name.replace('/', '-')}",
        "time": max(1, round(60 * resources.hours)),
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks(unit.stage),
        "cpus_per_task": resources.cpus,
        "signal_delay_s": cluster.signal_seconds,
        "array_parallelism": cluster.array_parallelism,
        # One task that died would leave the others waiting for it until the time is up.
        "srun_args": ["--kill-on-bad-exit=1"],
        "setup": list(cluster.setup) or None,
        **_asked(resources),
    }
    for name in ("partition", "account", "qos", "constraint"):
        value = getattr(cluster, name)
        if value is not None:
            found[name] = value
    return found


def job_of(submitted: Submitted) -> "submitit.SlurmJob[Any]":
    """Return a job that was submitted, whoever did it: its first task, which speaks for all."""
    return submitit.SlurmJob(folder=submitted.folder, job_id=submitted.job_id, tasks=[0])


def log_of(submitted: Submitted) -> Path:
    """Return the path of a job's own log."""
    return Path(str(job_of(submitted).paths.stdout))


def _asked(resources: Resources) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    if resources.gpus:
        asked["gpus_per_node"] = resources.gpus
    if resources.memory_gb is not None:
        asked["mem"] = f"{round(1024 * resources.memory_gb)}M"
    return asked


def _call(work: Work) -> str | None:
    """Run one work of an array."""
    return work()


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
