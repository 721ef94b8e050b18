"""Staleness, decided by content, and the sync of modification times that tells Snakemake of it.

Snakemake compares times and its own records in ``.snakemake``. Both are arbitrary after a clone, a
checkout or a pull, and neither knows what a setting means. So the Snakefile calls `sync_times`
once: a manifest that is current by content is made newer than all that it was made from, and the
staleness file of one that is not is made newer than the manifest. No torch.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pcb.errors import UserError
from pcb.pipeline.integrity import damaged_files
from pcb.pipeline.manifest import COMPLETE, Manifest, read_manifest
from pcb.pipeline.task import Input, Task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import disk_errors_explained, write_atomic

Manifests = Mapping[str, Manifest | None]
"""Name of a task -> its manifest, None where there is none."""

JUST_NEWER = 1_000_000
"""Nanoseconds: a millisecond survives the coarse times of any file system in use."""


def sync_times(pipeline: Pipeline) -> None:
    """Make the times of manifests and staleness files say what is stale by content.

    Raises UserError where a folder holds another version than its manifest, as it does after a
    `git checkout` without `dvc checkout`.
    """
    manifests = read_manifests(pipeline)
    stale = {task.name: why_stale(Input(task=task), manifests) for task in pipeline}
    _refuse_other_versions([task for task in pipeline if stale[task.name] is None], manifests)
    _leave_the_future(pipeline)
    for task in pipeline:
        why = stale[task.name]
        with disk_errors_explained(task.manifest):
            if why is None:
                _mark_current(task, manifests[task.name])
            else:
                _mark_stale(task, why)


def read_manifests(tasks: Iterable[Task]) -> Manifests:
    """Read the manifests of these tasks."""
    return {task.name: read_manifest(task.manifest) for task in tasks}


def why_stale(read: Input, manifests: Manifests) -> str | None:
    """Return why what is read has to be made (again), None if it is what the settings ask for.

    `manifests` holds those of the task and of its own inputs.
    """
    task = read.task
    manifest = manifests[task.name]
    if manifest is None:
        return "it was not made yet"
    if not _has_keys(read, manifest):
        return "it was made with other settings"
    for source, record in zip(task.inputs, manifest.inputs, strict=True):
        now = manifests[source.task.name]
        if now is not None and now.content_of(source.partitions) != record.content:
            return f"{source.task.name} was made again with another result"
    return _why_edited(task, manifest) if task.in_git else None


def _has_keys(read: Input, manifest: Manifest) -> bool:
    """Say whether a manifest was made with the settings that are asked for now."""
    if not read.partitions:
        return manifest.key == read.task.key
    wanted = dict(read.task.partitions)
    return all(manifest.partitions.get(name) == wanted[name] for name in read.partitions)


def _why_edited(task: Task, manifest: Manifest) -> str | None:
    """Return what is wrong with files that stand in git: they may have been edited or deleted."""
    damage = next(damaged_files(task, manifest.files), None)
    return None if damage is None else f"{damage[0]} {damage[1]}"


def _refuse_other_versions(current: list[Task], manifests: Manifests) -> None:
    """Refuse folders whose data are whole but of another version than a current manifest."""
    wrong = []
    for task in current:
        manifest, data = manifests[task.name], read_manifest(task.artifact / COMPLETE)
        assert manifest is not None, "a task without a manifest is stale"
        if data is not None and (data.key, data.content) != (manifest.key, manifest.content):
            wrong.append(task)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(
            f"{wrong[0].artifact}{more}: holds another version than {wrong[0].manifest}; fetch the "
            f"manifest's with `dvc checkout`, or make it again with `{wrong[0].command}`"
        )


def mark_made(task: Task, manifest: Manifest) -> None:
    """Make the outputs of a task that was just made no older than its inputs, whatever the clocks.

    The machine that made an input may be ahead of this one.
    """
    _mark_current(task, manifest)


def _leave_the_future(pipeline: Pipeline) -> None:
    """Bring times that have not come yet back to now: Snakemake would wait for them.

    Whatever a clock was that set them, what is newer than what is decided by content.
    """
    now = time.time_ns()
    for task in pipeline:
        pages = task.artifact.rglob("*") if task.in_git else ()
        for path in (task.staleness, task.manifest, *pages):
            if path.exists() and _time(path) > now:
                with disk_errors_explained(path):
                    _set_time(path, now)


def _mark_current(task: Task, manifest: Manifest | None) -> None:
    """Make a task's outputs at least as new as its staleness file and its inputs' manifests.

    Times move forward only, so that a task's readers, which follow in the pipeline, see them.
    """
    assert manifest is not None, "a task without a manifest is stale"
    if not task.staleness.exists():
        _write_staleness(task, why=None)
        _set_time(task.staleness, _time(task.manifest))
    sources = [task.staleness, *(source.task.manifest for source in task.inputs)]
    newest = max(_time(path) for path in sources if path.exists())
    outputs = [task.manifest]
    if task.in_git:
        outputs += [task.artifact / name for name in manifest.files]
    for path in outputs:
        if _time(path) < newest:
            _set_time(path, newest)


def _mark_stale(task: Task, why: str) -> None:
    """Make a task's staleness file newer than its manifest."""
    made = _time(task.manifest) if task.manifest.exists() else 0
    if _says(task.staleness, task, why) and _time(task.staleness) > made:
        return
    _write_staleness(task, why)
    if _time(task.staleness) <= made:
        _set_time(task.staleness, made + JUST_NEWER)


def _write_staleness(task: Task, why: str | None) -> None:
    # Snakemake overlooks a newer input whose checksum it has seen before; hence the nonce.
    found = {"key": task.key, "why": why, "nonce": time.time_ns()}
    write_atomic(task.staleness, json.dumps(found) + "\n")


def _says(path: Path, task: Task, why: str) -> bool:
    """Say whether a staleness file was written for this key and reason."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(found, dict) and (found.get("key"), found.get("why")) == (task.key, why)


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _set_time(path: Path, nanoseconds: int) -> None:
    os.utime(path, ns=(nanoseconds, nanoseconds))
