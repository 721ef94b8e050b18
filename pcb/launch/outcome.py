"""The outcome of a job for each of its tasks, as files that the job writes. No torch.

A job of one task leaves submitit's result. A job of several says of each how it ended as soon as it
did, in a file: whatever waits for the first need not wait for the last.
"""

import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import submitit

from pcb.launch.record import Submitted
from pcb.runtime.atomic import write_atomic


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task's making ended; without words it is made."""

    wrong: str | None = None
    """What a user has to put right: trying again would not help."""
    failed: bool = False
    """Whether an exception ended it."""


def job_of(job: Submitted) -> "submitit.SlurmJob[object]":
    """Return a job that was submitted, whoever did it: its first process, which speaks for all."""
    return submitit.SlurmJob(folder=job.folder, job_id=job.job_id, tasks=[0])


def log_of(job: Submitted) -> Path:
    """Return the path of a job's own log."""
    return Path(str(job_of(job).paths.stdout))


def outcome_of(job: Submitted, task: str) -> Outcome | None:
    """Return how a job ended for a task, None if it did not say so yet."""
    try:
        return msgspec.json.decode(_path(job.folder, task).read_bytes(), type=Outcome)
    except FileNotFoundError:
        if job.tasks:
            return None
    slurm = job_of(job)
    if not slurm.paths.result_pickle.exists():
        return None
    end, value = slurm._get_outcome_and_result()
    if end == "success":
        return Outcome(wrong=None if value is None else str(value))
    return Outcome(failed=True)


def keep_outcome(folder: str, task: str, make: Callable[[], str | None]) -> None:
    """Make a task unless its outcome is there, and write that down, whatever it is.

    `make` returns what a user has to put right. Its exceptions go into the log.
    """
    path = _path(folder, task)
    if path.exists():
        return
    try:
        outcome = Outcome(wrong=make())
    except Exception:
        traceback.print_exc()
        outcome = Outcome(failed=True)
    write_outcome(folder, task, outcome)


def write_outcome(folder: str, task: str, outcome: Outcome) -> None:
    """Write down how a task's making ended."""
    write_atomic(_path(folder, task), msgspec.json.encode(outcome))


def _path(folder: str, task: str) -> Path:
    return Path(folder) / "outcomes" / task


def tail(job: Submitted, lines: int) -> list[str]:
    """Return the last lines of a job's log, without those of the tools that ran it."""
    noise = ("submitit", "srun:", "slurmstepd")
    log = log_of(job)
    found = [*_lines(log), *_lines(log.with_suffix(".err"))]
    return [line for line in found if not line.startswith(noise)][-lines:]


def progress(job: Submitted, task: str) -> str:
    """Return the last that a job's log says of a task, without the task's name; perhaps nothing."""
    said = [line for line in _lines(log_of(job)) if line.startswith(f"{task}: ")]
    return said[-1].removeprefix(f"{task}: ") if said else ""


def _lines(path: Path) -> list[str]:
    """Return the lines of a log that have anything on them."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
