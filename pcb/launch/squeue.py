"""The state of Slurm jobs, from squeue, and from sacct for those that squeue has forgotten.

submitit's own watcher asks sacct alone: without accounting it waits forever for a job that died,
and with it answers come late. No torch.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

GONE = "GONE"
"""Neither squeue nor sacct knows the job."""
CANCELLED = "CANCELLED"
ALIVE = {
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESIZING",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
}
_NO_JOB = "67043327"
"""MaxJobId - 1: squeue fails on one unknown id, not on several."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """What Slurm says of a job."""

    state: str
    node: str = ""
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether the job is still to end."""
        return self.state in ALIVE


def job_states(ids: Iterable[str]) -> dict[str, JobState] | None:
    """Return the state of each job; None if Slurm does not answer."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    heads = sorted({job.partition("_")[0] for job in wanted})
    queue = _run(
        ["squeue", "-r", "-h", "-t", "all", "-o", "%i|%T|%N|%r", "-j", ",".join([*heads, _NO_JOB])]
    )
    if queue is None:
        return None
    found = {}
    for line in queue.splitlines():
        job, state, node, reason = line.split("|", 3)
        found[job] = JobState(state=state, node=node, reason=reason)
    for job in wanted:
        # An array that was canceled before it began is one entry, without its elements.
        whole = found.get(job.partition("_")[0])
        if whole is not None:
            found.setdefault(job, whole)
    forgotten = [job for job in wanted if job not in found]
    if forgotten:
        found |= _from_accounting(forgotten)
    return {job: found.get(job, JobState(state=GONE)) for job in wanted}


def job_named(name: str) -> str | None:
    """Return the id of the job (the array) of this name, GONE if there is none.

    None if Slurm does not answer.
    """
    queue = _run(["squeue", "-r", "-h", "-t", "all", "-o", "%i", "-n", name])
    if queue is None:
        return None
    # Without a time sacct tells of today's jobs alone.
    told = queue or _run(
        ["sacct", "-n", "-X", "-P", "-o", "JobID", "-S", "now-90days", "--name", name]
    )
    ids = (told or "").split()
    return ids[0].partition("_")[0] if ids else GONE


def cancel_named(names: Iterable[str]) -> None:
    """Cancel the jobs of these names; those that ended already stay as they are."""
    for name in sorted(set(names)):
        _run(["scancel", "--name", name])


def _from_accounting(ids: list[str]) -> dict[str, JobState]:
    """Return what sacct knows; nothing where there is no accounting."""
    text = _run(
        ["sacct", "-n", "-X", "--parsable2", "-o", "JobID,State,NodeList", "-j", ",".join(ids)]
    )
    found = {}
    for line in (text or "").splitlines():
        job, state, node = line.split("|")
        found[job] = JobState(state=state.split()[0], node=node)
    return found


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
