"""The arguments of a stage's entry, and finding that entry. No torch until an entry is called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pcb.config import Preset
from pcb.pipeline.task import Task
from pcb.runtime.progress import ShowProgress


class ShardGroup(NamedTuple):
    """Every `step`-th shard of a task from `first` on: what one of `step` processes makes."""

    first: int
    step: int

    def __str__(self) -> str:
        """Return what messages call it: `shard group 1 of 2`."""
        return f"shard group {self.first + 1} of {self.step}"


ALL_SHARDS = ShardGroup(0, 1)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the entry of a stage gets. What the entry calls gets the parts of it that it uses."""

    task: Task
    preset: Preset
    folder: Path
    """Where the result goes. It may hold finished files of an interrupted run of this very job, or
    partitions that did not change. Temporaries (leading dot, or `.part`) stay until it is done."""
    inputs: Mapping[str, Path]
    """Folders of the tasks that are read, checked, by stage (`train`); by the task's name
    (`train/ratio2`) where several of a stage are read."""
    progress: ShowProgress
    shards: ShardGroup = ALL_SHARDS
    """Which shards this process makes."""

    def makes(self, shard: int) -> bool:
        """Say whether a shard, by number, is this process's to make."""
        return shard % self.shards.step == self.shards.first

    @property
    def whole(self) -> bool:
        """Whether this process makes all shards, and so finishes the task."""
        return self.shards == ALL_SHARDS


Entry = Callable[[Job], Mapping[str, Any]]
"""A stage's work: writes files into the job's folder and returns results, JSON-able numbers."""


def entry_of(stage: str) -> Entry:
    """Return a stage's entry, imported when it is called: a complete task waits for no torch."""
    return lambda job: stage_function(stage, "run")(job)


def stage_function(stage: str, name: str) -> Callable[..., Any]:
    """Import a stage's file, and with it what it needs, and return a function of it."""
    function: Callable[..., Any] = getattr(import_module(f"pcb.stages.{stage}"), name)
    return function
