"""The Snakefile's view of the package: tasks, their files, and the lock of a workflow run.

Snakemake orders and starts; what there is to make and what is stale is decided in
`pcb.pipeline.tasks` and `pcb.pipeline.staleness`. No torch: reading the Snakefile takes a fraction
of a second.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pcb.config.checks import untrained_blocks, unused_models
from pcb.config.loader import active_preset, load_params, parse_preset
from pcb.config.paths import LOCKS, PARAMS
from pcb.config.stages import STAGES
from pcb.errors import UserError
from pcb.pipeline.disk import linked_folders
from pcb.pipeline.execution import (
    active_launcher,
    launcher_of,
    require_launcher,
    threads_of,
)
from pcb.pipeline.staleness import sync_times
from pcb.pipeline.task import TaskName
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.lock import Held, hold_until_exit


class Plan:
    """The tasks of the active preset, as a Snakefile sees them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    @property
    def name(self) -> str:
        """The preset's name."""
        return self.pipeline.name

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that there may be, in pipeline order."""
        return tuple(STAGES)

    @property
    def targets(self) -> list[str]:
        """The files that are there when all is made: each manifest, and what else is in git.

        Each: Snakemake does not miss a file between others that are there.
        """
        pages = [page for task in self.pipeline if task.in_git for page in self._pages(task)]
        return [*pages, *(str(task.manifest) for task in self.pipeline)]

    def sync_times(self) -> None:
        """Tell Snakemake what is stale; SystemExit with one line where that cannot be told.

        What a person may not have meant is printed on stderr.
        """
        with _one_line():
            sync_times(self.pipeline)
        preset = self.pipeline.preset
        doubts = (*unused_models(preset), *untrained_blocks(preset))
        for note in (*doubts, *linked_folders(self.name)):
            print(f"pcb: warning: {note}", file=sys.stderr, flush=True)

    def submits_jobs(self) -> bool:
        """Say whether tasks run as jobs of a cluster."""
        return active_launcher() == "slurm"

    def inputs(self, stage: str, variant: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the files that make a task stale, and those that only have to be there before it.

        Both by name: `staleness`, and the stage for the manifest (the list of manifests) it reads.
        A task of which partitions are read is of the second kind: its manifest is also rewritten
        when others are made, and a change of those shows in the reader's own staleness file.
        """
        task = self.pipeline.task(stage, variant)
        watched: dict[str, Any] = {"staleness": str(task.staleness)}
        ordered: dict[str, Any] = {}
        for read in task.inputs:
            files = ordered if read.partitions else watched
            path = str(read.task.manifest)
            if read.task.variant == "all":
                files[read.task.stage] = path
            else:
                files.setdefault(read.task.stage, []).append(path)
        return watched, ordered

    def manifest(self, stage: str, variant: str = "all") -> str:
        """Return a manifest's path; the variant may be a pattern such as `{model}`."""
        return str(self._named(stage, variant).manifest)

    def log(self, stage: str, variant: str = "all") -> str:
        """Return the path of a log; the variant may be a pattern."""
        return str(self._named(stage, variant).log)

    def manifests(self, stage: str) -> list[str]:
        """Return the manifests of all tasks of a stage."""
        return [self.manifest(stage, variant) for variant in self.pipeline.variants(stage)]

    def pages(self, stage: str) -> dict[str, str]:
        """Return a stage's pages by the name that its rule gives them: `index`, `metrics`, ..."""
        return {Path(page).stem: page for page in self._pages(self._named(stage, "all"))}

    def threads(self, stage: str) -> int:
        """Return the cores that one task of a stage takes here; a controller takes one."""
        if launcher_of(stage) == "slurm":
            return 1
        return threads_of(stage, self.pipeline.preset.compute)

    def _named(self, stage: str, variant: str) -> TaskName:
        return TaskName(preset=self.name, stage=stage, variant=variant)

    def _pages(self, task: TaskName) -> list[str]:
        return [str(task.artifact / page) for page in STAGES[task.stage].pages]


def load_plan() -> Plan:
    """Read params.yaml and the launcher. Raises SystemExit with one line where one is wrong."""
    with _one_line():
        require_launcher()
        params = load_params(PARAMS)
        name = active_preset(params)
        return Plan(Pipeline(name, parse_preset(params, name)))


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn a user's error into the end of the process, with one line."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"pcb: {error}") from None


def hold_workflow() -> None:
    """Let no second run of the workflow start in this folder until this process ends.

    Snakemake's own lock outlives a run that is killed, and would have to be removed by hand. Raises
    SystemExit where another run is on.
    """
    try:
        hold_until_exit(LOCKS / "workflow")
    except Held as held:
        raise SystemExit(
            f"pcb: process {held.holder} is running the workflow in this folder; wait for it or "
            f"stop it"
        ) from None


_WORDS = ("pcb: ", "Traceback (most recent call last)")
"""How the words of a process that fails begin."""
_WARNING = "pcb: warning: "
_TAIL = 100
"""Lines at the end of a log among which such words stand."""


def recap(snakemake_logs: Sequence[Path]) -> str:
    """Return which tasks failed, each with the last line of its log, from Snakemake's own logs."""
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in snakemake_logs)
    logs = dict.fromkeys(re.findall(r"^ +log: (\S+) \(check log file", text, flags=re.MULTILINE))
    if not logs:
        return f"pcb: the workflow failed; see {' '.join(map(str, snakemake_logs))}"
    lines = [f"pcb: {len(logs)} failed; the same command resumes from here"]
    return "\n".join([*lines, *(f"  {log}: {_last_line(Path(log))}" for log in logs)])


def _last_line(path: Path) -> str:
    """Return the last line of a failed task's log, and say so where it is none of an error.

    Whoever fails says why; whoever is killed says nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return "(no log)"
    last = next((line for line in reversed(lines) if line.strip()), None)
    if any(line.startswith(_WORDS) and not line.startswith(_WARNING) for line in lines[-_TAIL:]):
        return str(last)
    came_to = "before it said anything" if last is None else f"at: {last.strip()}"
    return f"killed, perhaps for want of memory, {came_to}"
