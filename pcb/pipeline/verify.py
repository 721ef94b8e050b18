"""`pcb verify`: results on disk against settings and manifests. No torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pcb.errors import UserError
from pcb.pipeline.integrity import damaged_files
from pcb.pipeline.manifest import COMPLETE, Manifest, read_manifest
from pcb.pipeline.staleness import Manifests, read_manifests, why_stale
from pcb.pipeline.task import Input, Task
from pcb.pipeline.tasks import Pipeline


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One task, looked at. `state` is one of the constants below."""

    task: Task
    manifest: Manifest | None
    state: str
    reason: str = ""
    damaged: tuple[Path, ...] = ()
    """Files that are there and do not hold what the manifest says."""

    @property
    def current(self) -> bool:
        """Whether the task is what the settings ask for, with all its files."""
        return self.state == CURRENT


CURRENT = "current"
NOT_MADE = "not made"
STALE = "stale"
ABSENT = "not here"
"""The manifest is current, but (some of) the files are not on this machine."""
DAMAGED = "damaged"


def verify(pipeline: Pipeline, tasks: Iterable[Task] | None = None) -> list[Finding]:
    """Look at tasks, or at all, reading every file anew; nothing remembered is trusted."""
    manifests = read_manifests(pipeline)
    return [_look(task, manifests) for task in (pipeline if tasks is None else tasks)]


def _look(task: Task, manifests: Manifests) -> Finding:
    manifest = manifests[task.name]
    if manifest is None:
        return Finding(task=task, manifest=None, state=NOT_MADE)
    try:
        why = why_stale(Input(task=task), manifests)
    except UserError as error:
        return Finding(task=task, manifest=manifest, state=DAMAGED, reason=str(error))
    bad = list(damaged_files(task, manifest.files, reread=True))
    damaged = tuple(path for path, _ in bad if path.exists())
    state, reason = CURRENT, ""
    if why is not None and not task.in_git:
        state, reason = STALE, why
    elif damaged:
        wrong = {path: what for path, what in bad}
        state, reason = DAMAGED, f"{damaged[0]} {wrong[damaged[0]]}"
    elif bad:
        state, reason = ABSENT, f"{bad[0][0]} {bad[0][1]}"
    elif not task.in_git and not _sealed(task, manifest):
        state, reason = ABSENT, f"{task.artifact / COMPLETE} is not this manifest's"
    elif why is not None:
        state, reason = STALE, why
    return Finding(task=task, manifest=manifest, state=state, reason=reason, damaged=damaged)


def _sealed(task: Task, manifest: Manifest) -> bool:
    """Say whether the data's own copy of the manifest is of the same version."""
    data = read_manifest(task.artifact / COMPLETE)
    return data is not None and (data.key, data.content) == (manifest.key, manifest.content)


def print_findings(findings: Iterable[Finding]) -> None:
    """Print a line per task."""
    for found in findings:
        content = found.manifest.content if found.manifest else "-"
        line = f"{found.state:<9} {found.task.name:<32} {content:<17} {found.reason}"
        print(line.rstrip())
