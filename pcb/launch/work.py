"""The entry of a Slurm job: one task or a group of its shards, by the code that runs anywhere."""

import os
import pickle
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission
from submitit.helpers import Checkpointable, TorchDistributedEnvironment

from pcb.config.loader import load_preset
from pcb.errors import UserError
from pcb.launch.outcome import Outcome, keep_outcome, write_outcome
from pcb.launch.record import Record
from pcb.pipeline.execution import LAUNCHER_VARIABLE, set_threads
from pcb.pipeline.job import ALL_SHARDS, ShardGroup, entry_of
from pcb.pipeline.run import follow_task, run_shards, run_task
from pcb.pipeline.task import Task, TaskName
from pcb.pipeline.tasks import Pipeline
from pcb.runtime import interrupt

_SUBMITTED = "SUBMITIT_EXECUTOR"
"""What submitit sets in a job."""


@dataclass(kw_only=True)
class Work(Checkpointable):
    """A task of the project in `root`, by name: nothing else is pickled."""

    root: str
    preset: str
    stage: str
    variant: str
    key: str
    shards: ShardGroup = ALL_SHARDS
    force: bool = False

    @classmethod
    def on(
        cls, task: Task | Record, shards: ShardGroup = ALL_SHARDS, *, force: bool = False
    ) -> "Work":
        """Return the work of making a task, or some of its shards, in this folder."""
        return cls(
            root=str(Path.cwd().resolve()),
            preset=task.preset,
            stage=task.stage,
            variant=task.variant,
            key=task.key,
            shards=shards,
            force=force,
        )

    def __call__(self) -> str | None:
        """Make the task or its shards. Returns what a user has to put right, None if all is done.

        Returned and not raised: submitit would wrap it, and the cluster would try again. Where
        several processes of a job make the task, this one ends as failed, so that the others do.
        """
        os.chdir(self.root)
        os.environ.pop(LAUNCHER_VARIABLE, None)
        interrupt.watch(signal.SIGUSR2)
        try:
            self._make()
        except UserError as error:
            _end_job(TaskName(preset=self.preset, stage=self.stage, variant=self.variant), error)
            return str(error)
        return None

    def checkpoint(self, *args: Any, **kwargs: Any) -> DelayedSubmission:
        """Resume after a requeue from what is on disk; a forced task is not begun again."""
        again = Work(**{**vars(self), "force": False})
        return DelayedSubmission(again)

    def _make(self) -> None:
        preset = load_preset(self.preset)
        task = Pipeline(self.preset, preset).task(self.stage, self.variant)
        if task.key != self.key:
            raise UserError(
                f"{task.name}: params.yaml was changed after this job was submitted; submit again"
            )
        set_threads(self.stage, preset.compute)
        entry = entry_of(self.stage)
        if _join_ranks() > 0:
            follow_task(task, preset, entry)
        elif self.shards == ALL_SHARDS:
            run_task(task, preset, entry, force=self.force)
        else:
            run_shards(task, preset, entry, self.shards)


@dataclass(kw_only=True)
class Chunk(Checkpointable):
    """Several tasks in one job, one after another; one that fails does not keep the next."""

    works: tuple[Work, ...]
    tasks: tuple[str, ...]
    """Their names, as in the job's record."""
    folder: str
    """The submission's, where outcomes go. After a requeue, tasks that have one are done with."""

    def __call__(self) -> None:
        """Make the tasks."""
        for task, work in zip(self.tasks, self.works, strict=True):
            keep_outcome(self.folder, task, work)


def _join_ranks() -> int:
    """Tell PyTorch of the job's processes, if there are several, and return this one's rank."""
    if _SUBMITTED not in os.environ:
        return int(os.environ.get("RANK", "0"))
    environment = JobEnvironment()
    if environment.num_tasks == 1:
        return 0
    # Devices stay visible: LOCAL_RANK chooses (`pcb.runtime.device`).
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    return int(environment.global_rank)


def _end_job(task: TaskName, error: UserError) -> None:
    """End this process and so its job, if others of it wait; leave its words for the controller.

    The first process's result is what the controller reads, and that one may be killed.
    """
    if _SUBMITTED not in os.environ:
        return
    environment = JobEnvironment()
    if environment.num_tasks == 1:
        return
    write_outcome(str(environment.paths.folder), task.name, Outcome(wrong=str(error)))
    print(f"pcb: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


def main() -> int:
    """Run the work that is pickled on stdin, as the launcher `local` gives it."""
    work = pickle.loads(sys.stdin.buffer.read())
    wrong = work()
    if wrong is not None:
        print(f"pcb: {wrong}", file=sys.stderr, flush=True)
    return 0 if wrong is None else 1


if __name__ == "__main__":
    # Under its real name, so that what is pickled is found there.
    from pcb.launch.work import main as run

    sys.exit(run())
