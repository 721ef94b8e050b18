"""Settings of the cluster and of its jobs. None of them enters a key."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pcb.config.base import Count, Positive, PositiveFloat, Settings
from pcb.config.stages import STAGES
from pcb.errors import UserError

if TYPE_CHECKING:
    StageName = str
else:
    # What msgspec reads, which refuses an unknown stage with the names of those that there are.
    StageName = Literal[tuple(STAGES)]
CHUNKED = tuple(stage.name for stage in STAGES.values() if stage.one_per == "sampling config")
"""Stages of many short tasks, of which one job may make several."""


class Resources(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one job of a stage asks for."""

    nodes: Positive = 1
    gpus: Count = 0
    """GPUs per node. Training runs one process per GPU, other stages take one."""
    ranks: Positive = 1
    """Processes per node of a training without GPUs."""
    cpus: Positive = 1
    """CPUs per process."""
    memory_gb: PositiveFloat | None = None
    """A node; None leaves it to the cluster."""
    hours: PositiveFloat = 1.0
    """Time limit: a number of hours, or hours:minutes as in `4:30`, with seconds as in `24:00:00`,
    with days as in `1-12:00:00`. A job that reaches it saves, is requeued and resumes."""
    array: Positive = 1
    """Jobs among which the shards of one task are dealt out."""
    chunk: Positive = 1
    """Tasks that one job makes, one after another."""


class Cluster(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of a cluster, and what each stage asks of it."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: dict[str, str | int] = {}
    """Further options of sbatch, by their long names: `{reservation: spring, exclude: node7}`."""
    setup: tuple[str, ...] = ()
    """Shell lines before the job's own: `export NCCL_SOCKET_IFNAME=ib0`."""
    python: str | None = None
    """Command that starts Python in a job, as in a container; None is the one that submits."""
    array_parallelism: Positive = 16
    """Jobs of one array that run at the same time."""
    signal_seconds: Positive = 90
    """How long before its end a job is told to save."""
    tries: Positive = 3
    """Submissions of a job that dies, before its stage stops."""
    poll_seconds: PositiveFloat = 5.0
    on_interrupt: Literal["ask", "leave", "cancel"] = "ask"
    """What Ctrl-C does to jobs. Where nobody can be asked, they are left."""
    default: Resources = Resources()
    stages: dict[StageName, Resources] = {}

    def __post_init__(self) -> None:
        for stage, own in self.stages.items():
            if own.chunk > 1 and stage not in CHUNKED:
                raise ValueError(f"{stage}.chunk: expected for {', '.join(CHUNKED)} alone")
            if own.chunk > 1 and own.array > 1:
                raise ValueError(f"{stage}: array cuts tasks up, chunk puts them together; set one")

    def resources(self, stage: str) -> Resources:
        """Return what a stage asks for."""
        return next((own for name, own in self.stages.items() if name == stage), self.default)


_TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d)(?::([0-5]\d))?")


def hours_of(tree: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return settings of a cluster, not yet checked, with times such as `4:30` as numbers of hours.

    Raises UserError, which begins with `place`, for a word under `hours` that is no time.
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found[key] = hours_of(value, f"{place}.{key}")
        elif key == "hours" and isinstance(value, str):
            time = _TIME.fullmatch(value)
            if time is None:
                raise UserError(
                    f"{place}.hours = {value!r}: expected a number of hours, or a time as in 4:30 "
                    "(hours:minutes), 24:00:00 or 1-12:00:00 (days-hours:minutes:seconds)"
                )
            days, hours, minutes, seconds = (int(part or 0) for part in time.groups())
            found[key] = 24 * days + hours + minutes / 60 + seconds / 3600
        else:
            found[key] = value
    return found
