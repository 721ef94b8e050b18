"""The head process of one unit: submit once, watch, find again, finish. It computes nothing.

One head a unit, held by a lock. The record of its jobs is written right after submission, so that
a head which is killed leaves jobs that the next one finds. Jobs that die are submitted again up to
a set number of times; what a user has to put right is not.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcb.errors import UserError
from pcb.launch.record import (
    Record,
    Submitted,
    read_record,
    record_path,
    remove_record,
    write_record,
)
from pcb.launch.squeue import GONE, JobState, job_states
from pcb.launch.submit import job_of, log_of, submit
from pcb.launch.work import Work
from pcb.lock import hold
from pcb.manifest import made_by
from pcb.pipeline import Unit
from pcb.settings.cluster import Cluster
from pcb.stage import already_made
from pcb.stages import shares_of

DONE = "done"
_UNSEEN = 3
"""Polls in a row that must not know a job before it counts as gone."""
_TAIL = 12
"""Lines of a failed job's log that are shown."""


@dataclass(kw_only=True)
class Head:
    """Brings one unit's jobs to their end."""

    unit: Unit
    cluster: Cluster
    force: bool = False
    jobs: list[Submitted] = field(default_factory=list)
    _shown: dict[str, str] = field(default_factory=dict)
    _unseen: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Submit or find the unit's jobs, and wait until all shares are made and it is finished.

        Raises UserError if a job fails for good, KeyboardInterrupt if a person stops the waiting.
        """
        lock = record_path(self.unit).with_suffix(".lock")
        waiting = f"{self.unit.name}: another process watches its jobs; waiting for that"
        with hold(lock, waiting):
            try:
                self._attach()
                if not self.jobs and not self.force and already_made(self.unit):
                    return
                # Forced, the last job begins from nothing: shares would be made for nothing.
                if not self.force and not any(job.share == (0, 1) for job in self.jobs):
                    resources = self.cluster.resources(self.unit.stage)
                    self._bring_home(shares_of(self.unit.stage, resources))
                self._bring_home([(0, 1)])
            except KeyboardInterrupt:
                self._interrupted()
                raise
            remove_record(self.unit)

    def _attach(self) -> None:
        """Take over the jobs of an earlier head, if they make the same thing."""
        record = read_record(record_path(self.unit))
        if record is None or record.key != self.unit.key:
            return
        self.jobs = list(record.jobs)
        for job in self.jobs:
            self._say(f"re-attached to job {job.job_id}")

    def _bring_home(self, shares: Sequence[tuple[int, int]]) -> None:
        """Have these shares made: submit those that no job makes, wait for all."""
        wanted = set(shares)
        mine = [job for job in self.jobs if job.share in wanted]
        missing = [share for share in shares if share not in {job.share for job in mine}]
        if missing:
            mine += self._submit(missing, [1] * len(missing))
        waiting = {job.share: job for job in mine}
        while waiting:
            states = job_states(job.job_id for job in waiting.values())
            for share, job in list(waiting.items()):
                ended = self._ended(job, (states or {}).get(job.job_id))
                if ended == DONE:
                    del waiting[share]
                elif ended is not None:
                    waiting[share] = self._again(job, ended)
            if waiting:
                time.sleep(self.cluster.poll_seconds)

    def _ended(self, job: Submitted, state: JobState | None) -> str | None:
        """Return None while a job goes on, DONE if it ended well, else the state it ended in.

        Raises UserError with the job's own words if trying again would not help.
        """
        slurm = job_of(job)
        if slurm.paths.result_pickle.exists():
            return self._result(job, slurm)
        if state is None:
            return None
        self._show(job, state)
        if state.alive:
            self._unseen.pop(job.job_id, None)
            return None
        self._unseen[job.job_id] = self._unseen.get(job.job_id, 0) + 1
        # The result may reach this machine's file system after the queue says that the job ended.
        if self._unseen[job.job_id] < _UNSEEN:
            return None
        return "unknown to the cluster" if state.state == GONE else state.state

    def _result(self, job: Submitted, slurm: Any) -> str:
        """Read what a job returned: nothing, what a user has to put right, or an exception."""
        outcome, value = slurm._get_outcome_and_result()
        if outcome == "success" and value is None:
            self._say(f"job {job.job_id} is done")
            return DONE
        self._forget(job)
        if outcome == "success":
            raise UserError(str(value))
        return "FAILED"

    def _again(self, job: Submitted, state: str) -> Submitted:
        """Submit a share again, or give up after the set number of tries."""
        if job.tries >= self.cluster.tries:
            self._forget(job)
            raise UserError(
                f"{self.unit.name}: slurm job {job.job_id} failed (state {state}), "
                f"as did {job.tries - 1} before it\n"
                + "".join(f"  {line}\n" for line in tail(log_of(job)))
                + f"  log: {log_of(job)}\n  alone: {made_by(self.unit)}"
            )
        self._say(f"job {job.job_id} ended as {state}; trying again")
        return self._submit([job.share], [job.tries + 1])[0]

    def _submit(self, shares: Sequence[tuple[int, int]], tries: Sequence[int]) -> list[Submitted]:
        works = [Work.on(self.unit, share, force=self.force) for share in shares]
        new = submit(self.unit, works, self.cluster, tries)
        self.jobs = [job for job in self.jobs if job.share not in set(shares)] + list(new)
        self._record()
        for job in new:
            part = "" if job.share == (0, 1) else f" (share {job.share[0] + 1} of {job.share[1]})"
            self._say(f"submitted job {job.job_id}{part}, log {log_of(job)}")
        return list(new)

    def _forget(self, job: Submitted) -> None:
        """Strike a job from the record: the next head submits it anew."""
        self.jobs = [other for other in self.jobs if other.job_id != job.job_id]
        self._record()

    def _record(self) -> None:
        write_record(
            self.unit,
            Record(
                unit=self.unit.name,
                preset=self.unit.preset,
                key=self.unit.key,
                jobs=tuple(self.jobs),
            ),
        )

    def _show(self, job: Submitted, state: JobState) -> None:
        """Print a job's state, and its last progress, when they change."""
        where = f" on {state.node}" if state.node else ""
        why = f" ({state.reason})" if state.state == "PENDING" and state.reason != "None" else ""
        progress = next(iter(tail(log_of(job), 1)), "") if state.state == "RUNNING" else ""
        line = f"job {job.job_id} {state.state}{where}{why}{'  ' if progress else ''}{progress}"
        if self._shown.get(job.job_id) != line:
            self._shown[job.job_id] = line
            self._say(line)

    def _say(self, text: str) -> None:
        print(f"{self.unit.name}: {text}", flush=True)

    def _interrupted(self) -> None:
        """Leave the jobs to themselves, or cancel them: asked where a person can answer."""
        if not self.jobs:
            return
        choice = self.cluster.on_interrupt
        if sys.stdin.isatty() and sys.stderr.isatty():
            answer = input(f"\n{self.unit.name}: cancel its {len(self.jobs)} jobs? [y/N] ")
            choice = "cancel" if answer.strip().lower().startswith("y") else "leave"
        if choice == "cancel":
            cancel(self.jobs)
            remove_record(self.unit)
            self._say("its jobs are cancelled")
        else:
            self._say("its jobs go on; the same command finds them, `pcb jobs` shows them")


def cancel(jobs: Sequence[Submitted]) -> None:
    """Cancel jobs; those that ended already stay as they are."""
    for job in jobs:
        job_of(job).cancel(check=False)


def tail(log: Path, lines: int = _TAIL) -> list[str]:
    """Return the last lines of a job's log, without those of the tools that ran it."""
    noise = ("submitit", "srun:", "slurmstepd")
    found: list[str] = []
    for path in (log, log.with_suffix(".err")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        found += [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
        if lines == 1:
            break
    return [line for line in found if not line.startswith(noise)][-lines:]
