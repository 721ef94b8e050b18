"""The making of one task: lock it, check what it reads, run its stage, describe the result.

A stage's entry gets a `Job` and writes finished files under their final names (`atomic`); killed
anywhere, it finds them again when the same command is given. `run_task` writes ``complete.json``
and the manifest last. No torch: importing an entry is what costs seconds, and a task that is
already complete does not import it.
"""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import msgspec

from pcb.config import Preset
from pcb.config.paths import LOCKS
from pcb.errors import UserError
from pcb.pipeline.folder import (
    NEW,
    WORK,
    prepare_folder,
    remove_temporaries,
    replace_by_new,
    work_for,
)
from pcb.pipeline.integrity import damaged_files, explain_damage, hash_files, is_intact
from pcb.pipeline.job import ALL_SHARDS, Entry, Job, ShardGroup
from pcb.pipeline.manifest import (
    COMPLETE,
    InputRecord,
    Manifest,
    content_of_files,
    read_manifest,
    record_input,
    result_files,
    write_manifest,
)
from pcb.pipeline.provenance import provenance_now
from pcb.pipeline.staleness import Manifests, mark_made, read_manifests, why_stale
from pcb.pipeline.task import Task
from pcb.runtime.atomic import disk_errors_explained
from pcb.runtime.lock import hold
from pcb.runtime.progress import Progress


def run_task(task: Task, preset: Preset, entry: Entry, *, force: bool = False) -> Manifest:
    """Make a task unless it is complete, and return its manifest.

    `force` makes it again from nothing. Raises UserError if an input is missing, stale or damaged,
    or if the disk is full or cannot be written.
    """
    with _locked(task):
        sources, reads = _sources(task)
        # Asked under the lock: whoever held it may have done the work.
        done = None if force else _complete_one(task, reads)
        if done is None:
            _check_inputs(task, sources)
            print(f"{task.name}: making {task.artifact} (key {task.key})", flush=True)
            done = _make(task, preset, entry, reads, force=force)
        (task.artifact / WORK).unlink(missing_ok=True)
        write_manifest(task.manifest, done)
        mark_made(task, done)
        return done


def already_made(task: Task) -> bool:
    """Say whether a task is complete; if so, its manifest is written. Raises as `run_task` does."""
    with _locked(task):
        done = _complete_one(task, _sources(task)[1])
        if done is not None:
            write_manifest(task.manifest, done)
            mark_made(task, done)
        return done is not None


def _sources(task: Task) -> tuple[Mapping[str, Manifest], tuple[InputRecord, ...]]:
    """Return the manifests of what a task reads, and what its own says of them."""
    sources = _source_manifests(task)
    return sources, tuple(record_input(read, sources[read.task.name]) for read in task.inputs)


def _complete_one(task: Task, reads: tuple[InputRecord, ...]) -> Manifest | None:
    """Return the record of a folder that is what is asked for, whole and undamaged."""
    done = read_manifest(task.artifact / COMPLETE)
    if done is None or not _is_complete(task, reads, done):
        return None
    print(f"{task.name}: already complete (key {task.key})", flush=True)
    return done


def run_shards(task: Task, preset: Preset, entry: Entry, shards: ShardGroup) -> None:
    """Make some shards of a task, beside processes that make others; `run_task` then finishes it.

    Raises UserError as `run_task` does.
    """
    with _locked(task, shared=True):
        sources, reads = _sources(task)
        # The first one here empties the folder of other work, while the others wait.
        with _locked(task, purpose="-prepare"):
            if _complete_one(task, reads) is not None:
                return
            _check_inputs(task, sources)
            prepare_folder(task, work_for(task, reads), force=False)
        print(f"{task.name}: making {shards}", flush=True)
        with disk_errors_explained(task.artifact):
            entry(_job(task, preset, shards))


def follow_task(task: Task, preset: Preset, entry: Entry) -> None:
    """Take part in the making of a task that another process seals: a rank but the first.

    The entry meets the first rank, which has prepared the folder by then. Raises as `run_task`.
    """
    sources, reads = _sources(task)
    if _complete_one(task, reads) is None:
        _check_inputs(task, sources)
        entry(_job(task, preset))


def _make(
    task: Task,
    preset: Preset,
    entry: Entry,
    reads: tuple[InputRecord, ...],
    *,
    force: bool,
) -> Manifest:
    """Let the entry work, then describe and seal what it made."""
    started = time.monotonic()
    folder = task.artifact
    with disk_errors_explained(folder):
        prepare_folder(task, work_for(task, reads), force=force)
        results = dict(entry(_job(task, preset)))
        if task.in_git:
            replace_by_new(folder)
        remove_temporaries(folder)
    files = hash_files(task, result_files(folder))
    manifest = Manifest(
        preset=task.preset,
        stage=task.stage,
        variant=task.variant,
        key=task.key,
        settings=_as_read(task.settings),
        inputs=reads,
        partitions=dict(task.partitions),
        files=files,
        content=content_of_files(files),
        results=_as_read(results),
        provenance=provenance_now(time.monotonic() - started),
    )
    write_manifest(folder / COMPLETE, manifest)
    return manifest


def _as_read(value: Any) -> Any:
    """Return plain data as it will be read back from JSON: tuples as lists, NaN as null."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _job(task: Task, preset: Preset, shards: ShardGroup = ALL_SHARDS) -> Job:
    """Return what the entry gets."""
    stages = Counter(read.task.stage for read in task.inputs)
    return Job(
        task=task,
        preset=preset,
        folder=task.artifact / NEW if task.in_git else task.artifact,
        inputs={
            read.task.stage if stages[read.task.stage] == 1 else read.task.name: read.task.artifact
            for read in task.inputs
        },
        progress=partial(Progress, task.name),
        shards=shards,
    )


def _locked(task: Task, *, shared: bool = False, purpose: str = "") -> AbstractContextManager[None]:
    """Hold the task's lock, or one for a purpose; if another process has it, say so and wait."""
    path = LOCKS / task.preset / task.stage / f"{task.variant}{purpose}.lock"
    waiting = None if purpose else f"{task.name}: another process is making it; waiting for that"
    return hold(path, waiting, shared=shared)


def _source_manifests(task: Task) -> Mapping[str, Manifest]:
    """Return the manifests of what a task reads.

    Raises UserError if one is missing or stale.
    """
    around = {read.task.name: read.task for read in task.inputs}
    around |= {r.task.name: r.task for source in [*around.values()] for r in source.inputs}
    manifests: Manifests = read_manifests(around.values())
    found = {}
    for read in task.inputs:
        why = why_stale(read, manifests)
        manifest = manifests[read.task.name]
        if why is not None or manifest is None:
            raise UserError(
                f"{task.name} reads {read.task.name}, but {why} ({read.task.manifest}); "
                f"run `{read.task.command}` first, or `make reproduce` for everything"
            )
        found[read.task.name] = manifest
    return found


def _check_inputs(task: Task, sources: Mapping[str, Manifest]) -> None:
    """Check that every file that will be read is there and is what its manifest says."""
    for read in task.inputs:
        files = sources[read.task.name].files_of(read.partitions)
        for path, damage in damaged_files(read.task, files):
            raise UserError(explain_damage(read.task, path, damage, task.name))


def _is_complete(task: Task, reads: tuple[InputRecord, ...], done: Manifest) -> bool:
    """Say whether a sealed folder is what is asked for, whole and undamaged."""
    return done.key == task.key and done.inputs == reads and is_intact(task, done)
