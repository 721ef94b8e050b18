"""What the Snakefile asks the package: the tasks, their files, and whether another run is on.

Snakemake orders and starts; what there is to make and what is stale is decided in
`pcb.pipeline.tasks` and `pcb.pipeline.staleness`. No torch: reading the Snakefile takes a fraction
of a second.
"""

import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcb.config.loader import PARAMS_FILE, active_preset, load_params, parse_preset
from pcb.config.paths import LOCKS, LOGS
from pcb.errors import UserError
from pcb.pipeline.stages import launcher_of, threads_of
from pcb.pipeline.staleness import settle
from pcb.pipeline.tasks import VERSIONS, Pipeline, Task

REPORT_PAGES = ("index.html", "metrics.csv", "claims.json")
"""The report's files that others look for; they stand in git beside their figures."""


class Plan:
    """The tasks of the active preset, as a Snakefile sees them."""

    def __init__(self) -> None:
        """Read params.yaml. Raises SystemExit with one line where it is wrong."""
        try:
            params = load_params(PARAMS_FILE)
            self.name = active_preset(params)
            self.preset = parse_preset(params, self.name)
        except UserError as error:
            raise SystemExit(f"pcb: {error}") from None
        self.pipeline = Pipeline(self.name, self.preset)

    def settle(self) -> None:
        """Tell Snakemake what is stale; SystemExit with one line where that cannot be told."""
        try:
            settle(self.pipeline)
        except UserError as error:
            raise SystemExit(f"pcb: {error}") from None

    def inputs(self, stage: str, variant: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the files that make a task stale, and those that only have to be there before it.

        Both by name: `stamp`, and the stage for the manifest (the list of manifests) it reads. A
        task that is read in parts is of the second kind: its manifest is also rewritten when other
        parts are made, and a change of the parts that are read shows in the reader's own stamp.
        """
        task = self.pipeline.task(stage, variant)
        watched: dict[str, Any] = {"stamp": str(task.stamp)}
        ordered: dict[str, Any] = {}
        for read in task.inputs:
            files = ordered if read.parts else watched
            path = str(read.task.manifest)
            if read.task.variant == "all":
                files[read.task.stage] = path
            else:
                files.setdefault(read.task.stage, []).append(path)
        return watched, ordered

    def manifest(self, stage: str, variant: str = "all") -> str:
        """Return a manifest's path; the variant may be a pattern such as `{model}`."""
        return str(self._pattern(stage, variant).manifest)

    def log(self, stage: str, variant: str = "all") -> str:
        """Return the path of a log; the variant may be a pattern."""
        return str(LOGS / self.name / stage / f"{variant}.log")

    def stages(self) -> tuple[str, ...]:
        """Return the stages that there may be, in pipeline order."""
        return tuple(VERSIONS)

    def manifests(self, stage: str) -> list[str]:
        """Return the manifests of all tasks of a stage."""
        return [self.manifest(stage, variant) for variant in self.pipeline.variants(stage)]

    def pages(self) -> dict[str, str]:
        """Return the report's pages by the name that rules give them: `index`, `metrics`, ..."""
        folder = self._pattern("report", "all").artifact
        return {Path(page).stem: str(folder / page) for page in REPORT_PAGES}

    def threads(self, stage: str) -> int:
        """Return the cores that one task of a stage takes here; a head that waits takes one."""
        if launcher_of(stage) == "slurm":
            return 1
        return threads_of(stage, self.preset.compute)

    def _pattern(self, stage: str, variant: str) -> Task:
        return Task(preset=self.name, stage=stage, variant=variant, settings=None)


def hold_workflow() -> None:
    """Let no second run of the workflow start in this folder until this process ends.

    The kernel lets go of such a lock when its holder dies, however it dies. Snakemake's own lock
    outlives it and would have to be removed by hand. Raises SystemExit where another run is on.
    """
    path = LOCKS / "workflow"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never closed: it is held as long as this process lives, and is not inherited by jobs.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode().strip()
        raise SystemExit(
            f"pcb: process {holder} is running the workflow in this folder; wait for it or stop it"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def recap(snakemake_logs: Sequence[Path]) -> str:
    """Return which tasks failed, each with the last line of its log, from Snakemake's own logs."""
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in snakemake_logs)
    logs = dict.fromkeys(re.findall(r"^ +log: (\S+) \(check log file", text, flags=re.MULTILINE))
    if not logs:
        return f"pcb: the workflow failed; see {' '.join(map(str, snakemake_logs))}"
    lines = [f"pcb: {len(logs)} failed; the same command goes on from here"]
    return "\n".join([*lines, *(f"  {log}: {_last_line(Path(log))}" for log in logs)])


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return "(no log)"
    return next((line for line in reversed(lines) if line.strip()), "(empty log)")
