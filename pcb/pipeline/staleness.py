"""What is stale is decided here, by content; Snakemake is told through modification times.

Snakemake compares times and a private book in ``.snakemake``. Both are arbitrary after a clone, a
checkout or a pull, and neither knows what a setting means. So the Snakefile calls `settle` once:
a manifest that is current by content is made newer than all that it was made from, and the stamp
of one that is not is made newer than the manifest. No torch.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pcb.errors import UserError
from pcb.pipeline.integrity import damaged_files
from pcb.pipeline.manifest import COMPLETE, Manifest, made_by, read_manifest
from pcb.pipeline.tasks import Input, Pipeline, Task
from pcb.runtime.atomic import disk_errors_explained, write_atomic

Manifests = Mapping[str, Manifest | None]
"""Name of a task -> its manifest, None where there is none."""

JUST_NEWER = 1_000_000
"""Nanoseconds: a millisecond survives the coarse times of any file system in use."""


def settle(pipeline: Pipeline) -> None:
    """Make the times of manifests and stamps say what their contents say.

    Raises UserError where a folder holds another version than its manifest, as it does after a
    `git checkout` without `dvc checkout`.
    """
    manifests = read_manifests(pipeline)
    stale = {task.name: why_stale(Input(task=task), manifests) for task in pipeline}
    _refuse_other_versions([task for task in pipeline if stale[task.name] is None], manifests)
    for task in pipeline:
        why = stale[task.name]
        with disk_errors_explained(task.manifest):
            if why is None:
                _make_current(task, manifests[task.name])
            else:
                _make_stale(task, why)


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
        if now is not None and now.content_of(source.parts) != record.content:
            return f"{source.task.name} was made again with another result"
    return _why_report_stale(task, manifest) if task.stage == "report" else None


def _has_keys(read: Input, manifest: Manifest) -> bool:
    """Say whether a manifest was made with the settings that are asked for now."""
    if not read.parts:
        return manifest.key == read.task.key
    wanted = dict(read.task.parts)
    return all(manifest.parts.get(part) == wanted[part] for part in read.parts)


def _why_report_stale(task: Task, manifest: Manifest) -> str | None:
    """A report's files stand in git beside its manifest, and may have been edited or deleted."""
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
            f"manifest's with `dvc checkout`, or make it again with `{made_by(wrong[0])}`"
        )


def _make_current(task: Task, manifest: Manifest | None) -> None:
    """Make a task's outputs at least as new as its stamp and the manifests that it was made from.

    Times move forward only, so that a task's readers, which follow in the pipeline, see them.
    """
    assert manifest is not None, "a task without a manifest is stale"
    if not task.stamp.exists():
        _write_stamp(task, why=None)
        _set_time(task.stamp, _time(task.manifest))
    sources = [task.stamp, *(source.task.manifest for source in task.inputs)]
    newest = max(_time(path) for path in sources if path.exists())
    outputs = [task.manifest]
    if task.stage == "report":
        outputs += [task.artifact / name for name in manifest.files]
    for path in outputs:
        if _time(path) < newest:
            _set_time(path, newest)


def _make_stale(task: Task, why: str) -> None:
    """Make a task's stamp newer than its manifest."""
    made = _time(task.manifest) if task.manifest.exists() else 0
    if _says(task.stamp, task, why) and _time(task.stamp) > made:
        return
    _write_stamp(task, why)
    if _time(task.stamp) <= made:
        _set_time(task.stamp, made + JUST_NEWER)


def _write_stamp(task: Task, why: str | None) -> None:
    # Snakemake overlooks a newer input whose checksum it has seen before; hence the nonce.
    stamp = {"key": task.key, "why": why, "nonce": time.time_ns()}
    write_atomic(task.stamp, json.dumps(stamp) + "\n")


def _says(stamp: Path, task: Task, why: str) -> bool:
    """Say whether a stamp was written for this key and reason."""
    try:
        found: Any = json.loads(stamp.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(found, dict) and (found.get("key"), found.get("why")) == (task.key, why)


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _set_time(path: Path, nanoseconds: int) -> None:
    os.utime(path, ns=(nanoseconds, nanoseconds))
