"""A task: its name, its files and its key. No torch, no files are read.

A *task* is one result: the tokenizer, the training of one model, the metrics of one sampling
config. Its *key* is a hash of the stage, the stage's version, its part of params.yaml and the keys
of the tasks it reads; whatever has the same key has the same result.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pcb.config import SamplingConfig, SystemConfig
from pcb.config.paths import ARTIFACTS, LOGS, MANIFESTS, REPORTS, STALENESS
from pcb.config.stages import STAGES
from pcb.runtime.hashing import content_hash


@dataclass(frozen=True, kw_only=True)
class TaskName:
    """What tells a task from others, and where its files stand; any part may be a pattern."""

    preset: str
    stage: str
    variant: str = "all"
    """`all`, a model's name, or `MODEL/CONFIG`."""

    @property
    def name(self) -> str:
        """How messages call the task: `train/ratio2`."""
        return self.stage if self.variant == "all" else f"{self.stage}/{self.variant}"

    @property
    def command(self) -> str:
        """The command that makes the task."""
        variant = "" if self.variant == "all" else f" {self.variant}"
        return f"pcb {self.stage}{variant} --preset {self.preset}"

    @property
    def in_git(self) -> bool:
        """Whether the result stands in git, and not in DVC."""
        return STAGES[self.stage].in_git

    @property
    def manifest(self) -> Path:
        """The small file in git that describes the result; the only output Snakemake knows."""
        return MANIFESTS / self.preset / self.stage / f"{self.variant}.json"

    @property
    def artifact(self) -> Path:
        """The folder of the result's data."""
        if self.in_git:
            return REPORTS / self.preset
        return ARTIFACTS / self.preset / self.stage / self.variant

    @property
    def staleness(self) -> Path:
        """A file newer than the manifest while the result is stale (`pcb.pipeline.staleness`)."""
        return STALENESS / self.preset / self.stage / f"{self.variant}.json"

    @property
    def log(self) -> Path:
        """Where the workflow keeps what making the task printed."""
        return LOGS / self.preset / self.stage / f"{self.variant}.log"


@dataclass(frozen=True, kw_only=True)
class Task(TaskName):
    """One result of a preset, of one of its models, or of a model and a sampling config."""

    variant: str = field(init=False)
    model: str | None = None
    sampling_config: SamplingConfig | SystemConfig | None = None
    settings: Any = field(hash=False)
    """What decides the result beside its inputs, as plain data: it enters key and manifest."""
    inputs: tuple["Input", ...] = ()
    partitions: tuple[tuple[str, str], ...] = ()
    """(sub-folder, key) where partitions of the result stand on their own, as the scales of the
    token cache do: adding one does not touch the others, nor what reads only the others."""

    def __post_init__(self) -> None:
        config = None if self.sampling_config is None else self.sampling_config.name
        variant = "/".join(part for part in (self.model, config) if part is not None)
        object.__setattr__(self, "variant", variant or "all")

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides the result."""
        return self.key_with(self.settings)

    def key_with(self, settings: Any) -> str:
        """Return the key that this task would have with other settings."""
        version = STAGES[self.stage].version
        return content_hash([self.stage, version, settings, [item.key for item in self.inputs]])


@dataclass(frozen=True, kw_only=True)
class Input:
    """A task that another one reads, or those of its partitions that it reads."""

    task: Task
    partitions: tuple[str, ...] = ()
    """Sub-folders of the task's artifact; none means all of it."""

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides what is read."""
        if not self.partitions:
            return self.task.key
        keys = dict(self.task.partitions)
        return content_hash([keys[partition] for partition in self.partitions])
