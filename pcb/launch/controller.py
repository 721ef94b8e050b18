"""The controller of one task: submits once, watches, finds again, finishes. It computes nothing.

One controller per task, held by a lock. The record of its jobs is written before and after
submission, so that one which is killed leaves jobs that the next one finds. Jobs that die are
submitted again up to a set number of times; what a user has to put right is not.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pcb.config.cluster import Cluster
from pcb.errors import UserError
from pcb.launch.chunk import submit_together
from pcb.launch.outcome import Outcome, log_of, outcome_of, progress, tail
from pcb.launch.record import Record, Submitted, all_records, read_record
from pcb.launch.split import shard_groups
from pcb.launch.squeue import CANCELLED, GONE, JobState, cancel_named, job_named, job_states
from pcb.launch.submit import announce, numbered, submit
from pcb.launch.table import TABLE_VARIABLE
from pcb.launch.work import Work
from pcb.pipeline.job import ALL_SHARDS, ShardGroup
from pcb.pipeline.run import already_made
from pcb.pipeline.task import Task
from pcb.runtime.lock import hold

DONE = "done"
_UNSEEN = 3
"""Polls in a row that must not know a job before it counts as gone."""
_TAIL = 12
"""Lines of a failed job's log that are shown."""


@dataclass(kw_only=True)
class Controller:
    """Brings one task's jobs to their end."""

    task: Task
    cluster: Cluster
    force: bool = False
    jobs: list[Submitted] = field(default_factory=list)
    _shown: dict[str, str] = field(default_factory=dict)
    _unseen: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Submit or find the task's jobs, and wait until all shards are made and it is finished.

        Raises UserError if a job fails for good, KeyboardInterrupt if a person stops the waiting.
        """
        record = Record.of(self.task)
        waiting = f"{self.task.name}: another process watches its jobs; waiting for that"
        with hold(record.lock, waiting):
            try:
                self._attach()
                if not self.jobs and not self.force and already_made(self.task):
                    return
                # Forced, the last job begins from nothing: shards would be made for nothing.
                if not self.force and not any(job.shards == ALL_SHARDS for job in self.jobs):
                    resources = self.cluster.resources(self.task.stage)
                    self._bring_home(shard_groups(self.task.stage, resources))
                self._bring_home([ALL_SHARDS])
            except KeyboardInterrupt:
                self._interrupted()
                raise
            record.remove()

    def _attach(self) -> None:
        """Take over the jobs of an earlier controller, if they make the same thing."""
        record = read_record(Record.of(self.task).path)
        if record is None or record.key != self.task.key:
            return
        self.jobs = self._known(record.jobs)
        self._record()
        for job in self.jobs:
            self._say(f"re-attached to job {job.job_id}")

    def _known(self, jobs: Sequence[Submitted]) -> list[Submitted]:
        """Return jobs with the ids that nobody lived to write down, without those never submitted.

        Their names tell: each is one submission's.
        """
        found = [job for job in jobs if job.job_id]
        for name in dict.fromkeys(job.name for job in jobs if not job.job_id):
            together = [job for job in jobs if job.name == name]
            number, asked = job_named(name), 1
            # What a killed controller has just sent may be under way.
            while number is None or (number == GONE and asked < _UNSEEN):
                if number is None and asked == 1:
                    self._say(f"Slurm does not answer; asking again for job {name}")
                time.sleep(self.cluster.poll_seconds)
                number, asked = job_named(name), asked + 1
            if number != GONE:
                found += numbered(together, number)
        return found

    def _bring_home(self, groups: Sequence[ShardGroup]) -> None:
        """Have these shards made: submit those that no job makes, wait for all."""
        wanted = set(groups)
        mine = [job for job in self.jobs if job.shards in wanted]
        missing = [shards for shards in groups if shards not in {job.shards for job in mine}]
        if missing:
            mine += self._submit(missing)
        waiting = {job.shards: job for job in mine}
        while waiting:
            states = job_states(job.job_id for job in waiting.values())
            for shards, job in list(waiting.items()):
                ended = self._ended(job, (states or {}).get(job.job_id))
                if ended == DONE:
                    del waiting[shards]
                elif ended is not None:
                    waiting[shards] = self._again(job, ended)
            if waiting:
                time.sleep(self.cluster.poll_seconds)

    def _ended(self, job: Submitted, state: JobState | None) -> str | None:
        """Return None while a job lives, DONE if it ended well, else the state it ended in.

        Raises UserError with the job's own words if trying again would not help.
        """
        outcome = outcome_of(job, self.task.name)
        if outcome is not None:
            return self._told(job, outcome)
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

    def _told(self, job: Submitted, outcome: Outcome) -> str:
        """Act on what a job says of itself."""
        if outcome.wrong is None and not outcome.failed:
            self._say(f"job {job.job_id} is done")
            return DONE
        self._forget(job)
        if outcome.wrong is not None:
            raise UserError(outcome.wrong)
        return "FAILED"

    def _again(self, job: Submitted, state: str) -> Submitted:
        """Submit a job again, alone, or give up: after the set number of tries, or at once."""
        if state == CANCELLED:
            # `pcb jobs --cancel` has struck it from the record, and all that goes with it.
            if read_record(Record.of(self.task).path) is not None:
                self._forget(job)
            raise UserError(
                f"{self.task.name}: slurm job {job.job_id} was canceled; "
                f"the same command submits it anew"
            )
        if job.tries >= self.cluster.tries:
            self._forget(job)
            raise UserError(
                f"{self.task.name}: slurm job {job.job_id} failed (state {state}), "
                f"as did {job.tries - 1} before it\n"
                + "".join(f"  {line}\n" for line in tail(job, _TAIL))
                + f"  log: {log_of(job)}\n  alone: {self.task.command}"
            )
        self._say(f"job {job.job_id} ended as {state}; trying again")
        return self._submit([job.shards], job.tries + 1)[0]

    def _submit(self, groups: Sequence[ShardGroup], tries: int = 1) -> list[Submitted]:
        """Submit groups of shards, or the whole task, which may share a job with others."""
        self.jobs = [job for job in self.jobs if job.shards not in set(groups)]
        chunk = self.cluster.resources(self.task.stage).chunk
        if chunk > 1 and tries == 1 and not self.force:
            new: list[Submitted] = []
            while not new:
                new = self._known(submit_together(Record.of(self.task), self.cluster))
        else:
            new = self._submit_alone(groups, tries)
        self.jobs += new
        self._record()
        for job in new:
            part = "" if job.shards == ALL_SHARDS else f" ({job.shards})"
            part = f" (one of {len(job.tasks)} tasks)" if job.tasks else part
            self._say(f"submitted job {job.job_id}{part}, log {log_of(job)}")
        return new

    def _submit_alone(self, groups: Sequence[ShardGroup], tries: int) -> list[Submitted]:
        """Submit jobs that make nothing but this task."""
        before = self.jobs
        works = [Work.on(self.task, shards, force=self.force) for shards in groups]
        named = announce(self.task, groups, tries)
        self.jobs = [*before, *named]
        self._record()
        try:
            new = submit(self.task.stage, named, works, self.cluster)
        except UserError:
            self.jobs = before
            self._record()
            raise
        self.jobs = before
        return list(new)

    def _forget(self, job: Submitted) -> None:
        """Strike a job from the record: the next controller submits it anew."""
        self.jobs = [other for other in self.jobs if other.job_id != job.job_id]
        self._record()

    def _record(self) -> None:
        """Write the record, or remove it where no job is left."""
        record = Record.of(self.task, tuple(self.jobs))
        if self.jobs:
            record.write()
        else:
            record.remove()

    def _show(self, job: Submitted, state: JobState) -> None:
        """Print a job's state when it changes, and its last progress, unless a table shows that."""
        where = f" on {state.node}" if state.node else ""
        why = f" ({state.reason})" if state.state == "PENDING" and state.reason != "None" else ""
        said = ""
        if state.state == "RUNNING" and TABLE_VARIABLE not in os.environ:
            said = progress(job, self.task.name)
        line = f"job {job.job_id} {state.state}{where}{why}{'  ' if said else ''}{said}"
        if self._shown.get(job.job_id) != line:
            self._shown[job.job_id] = line
            self._say(line)

    def _say(self, text: str) -> None:
        print(f"{self.task.name}: {text}", flush=True)

    def _interrupted(self) -> None:
        """Leave the jobs to themselves, or cancel them: asked where a person can answer."""
        # What stands on record: another controller may have submitted for this one.
        record = read_record(Record.of(self.task).path)
        if record is None or not record.jobs:
            Record.of(self.task).remove()
            return
        choice = self.cluster.on_interrupt
        if choice == "ask" and sys.stdin.isatty() and sys.stderr.isatty():
            answer = input(f"\n{self.task.name}: cancel its {len(record.jobs)} jobs? [y/N] ")
            choice = "cancel" if answer.strip().lower().startswith("y") else "leave"
        if choice != "cancel":
            self._say("its jobs stay; the same command finds them, `pcb jobs` shows them")
        elif give_up(record):
            self._say("its jobs are canceled")
        else:
            self._say("its job stays, since it makes other tasks too")


def give_up(record: Record) -> bool:
    """Forget a task's jobs and cancel those that make no other task; say whether that is all."""
    record.remove()
    shared = {job.name for other in all_records() for job in other.jobs}
    own = {job.name for job in record.jobs}
    cancel_named(own - shared)
    return not own & shared
