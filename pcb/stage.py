"""Making one unit: lock it, check what it reads, let its stage work, describe what came out.

A stage's entry gets a `Job` and writes finished files under their final names (`atomic`); killed
anywhere, it finds them again when the same command is given. `run_unit` writes ``complete.json``
and the manifest last. No torch: importing an entry is what costs seconds, and a unit that is
already complete does not import it.
"""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pcb.atomic import atomic, explain_disk_error, write_atomic
from pcb.certificate import certify
from pcb.errors import UserError
from pcb.manifest import (
    COMPLETE,
    InputRecord,
    Manifest,
    content_of_files,
    is_temporary,
    made_by,
    read_manifest,
    record_input,
    result_files,
    write_manifest,
)
from pcb.pipeline import Unit, content_hash
from pcb.progress import Progress
from pcb.settings import Preset
from pcb.settle import Manifests, read_manifests, why_stale
from pcb.verify import damaged_files, explain_damage, hash_files, is_intact

__all__ = ["Job", "Entry", "Progress", "atomic", "run_unit", "write_atomic"]

WORK = ".work.json"
"""Says what an unfinished folder is being filled with."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the entry of a stage gets."""

    unit: Unit
    preset: Preset
    folder: Path
    """Where the result goes. It may hold finished files of an interrupted run of this very job,
    or parts that did not change. Temporaries (leading dot, or `.part`) stay until it is done."""
    inputs: Mapping[str, Path]
    """Folders of the units that are read, checked: under the unit's name (`train/ratio2`) and,
    where only one unit of a stage is read, also under the stage's (`train`)."""
    facts: Mapping[str, Mapping[str, Any]]
    """Measured numbers of the units that are read, under the same names."""
    progress: Callable[[str, int], Progress]
    """``progress("images", 2000)`` returns a context manager with `.advance(n, loss=0.1)`."""


Entry = Callable[[Job], Mapping[str, Any]]
"""A stage's work: writes files into the job's folder and returns facts, JSON-able numbers."""


class _Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder is filled with: two runs with equal works make the same files."""

    source: str
    """Hash of the unit's key and of what it reads."""
    parts: dict[str, str]
    """The same for each of its parts."""


def run_unit(unit: Unit, preset: Preset, entry: Entry, *, force: bool = False) -> Manifest:
    """Make a unit unless it is complete, and return its manifest.

    `force` makes it again from nothing. Raises UserError if an input is missing, stale or damaged,
    or if the disk is full or cannot be written.
    """
    with _locked(unit):
        sources = _source_manifests(unit)
        reads = tuple(record_input(read, sources[read.unit.name]) for read in unit.inputs)
        done = read_manifest(unit.artifact / COMPLETE)
        # Asked under the lock: whoever held it may have done the work.
        if not force and done is not None and _is_complete(unit, reads, done):
            print(f"{unit.name}: already complete (key {unit.key})", flush=True)
        else:
            _check_inputs(unit, sources)
            print(f"{unit.name}: making {unit.artifact} (key {unit.key})", flush=True)
            done = _make(unit, preset, entry, sources, reads, force=force)
        (unit.artifact / WORK).unlink(missing_ok=True)
        write_manifest(unit.manifest, done)
        return done


def _make(
    unit: Unit,
    preset: Preset,
    entry: Entry,
    sources: Mapping[str, Manifest],
    reads: tuple[InputRecord, ...],
    *,
    force: bool,
) -> Manifest:
    """Let the entry work, then describe and seal what it made."""
    started = time.monotonic()
    folder = unit.artifact
    try:
        _prepare_folder(unit, _work(unit, reads), force=force)
        facts = dict(entry(_job(unit, preset, sources)))
        _remove_temporaries(folder)
    except Exception as error:
        explained = explain_disk_error(error, folder)
        if explained is None:
            raise
        raise explained from error
    files = hash_files(unit, result_files(folder))
    manifest = Manifest(
        preset=unit.preset,
        stage=unit.stage,
        variant=unit.variant,
        key=unit.key,
        settings=_as_read(unit.settings),
        inputs=reads,
        parts=dict(unit.parts),
        files=files,
        content=content_of_files(files),
        facts=_as_read(facts),
        certificate=certify(time.monotonic() - started),
    )
    write_manifest(folder / COMPLETE, manifest)
    return manifest


def _as_read(value: Any) -> Any:
    """Return plain data as it will be read back from JSON: tuples as lists, NaN as null."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _job(unit: Unit, preset: Preset, sources: Mapping[str, Manifest]) -> Job:
    """Return what the entry gets."""
    units = {read.unit.name: read.unit for read in unit.inputs}
    stages = [source.stage for source in units.values()]
    names = {name: name for name in units}
    names |= {s.stage: s.name for s in units.values() if stages.count(s.stage) == 1}
    return Job(
        unit=unit,
        preset=preset,
        folder=unit.artifact,
        inputs={alias: units[name].artifact for alias, name in names.items()},
        facts={alias: sources[name].facts for alias, name in names.items()},
        progress=partial(Progress, unit.name),
    )


@contextmanager
def _locked(unit: Unit) -> Iterator[None]:
    """Hold the unit's lock; if another process has it, say so and wait."""
    path = Path(".pcb") / "locks" / unit.preset / unit.stage / f"{unit.variant}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        explained = explain_disk_error(error, path)
        if explained is None:
            raise
        raise explained from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{unit.name}: another process is making it; waiting for that", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _source_manifests(unit: Unit) -> Mapping[str, Manifest]:
    """Return the manifests of what a unit reads.

    Raises UserError if one is missing or stale.
    """
    around = {read.unit.name: read.unit for read in unit.inputs}
    around |= {r.unit.name: r.unit for source in [*around.values()] for r in source.inputs}
    manifests: Manifests = read_manifests(around.values())
    found = {}
    for read in unit.inputs:
        why = why_stale(read, manifests)
        manifest = manifests[read.unit.name]
        if why is not None or manifest is None:
            raise UserError(
                f"{unit.name} reads {read.unit.name}, but {why} ({read.unit.manifest}); "
                f"run `{made_by(read.unit)}` first, or `make reproduce` for everything"
            )
        found[read.unit.name] = manifest
    return found


def _check_inputs(unit: Unit, sources: Mapping[str, Manifest]) -> None:
    """Check that every file that will be read is there and is what its manifest says."""
    for read in unit.inputs:
        files = sources[read.unit.name].files_of(read.parts)
        for path, damage in damaged_files(read.unit, files):
            raise UserError(explain_damage(read.unit, path, damage, unit.name))


def _is_complete(unit: Unit, reads: tuple[InputRecord, ...], done: Manifest) -> bool:
    """Say whether a sealed folder is what is asked for, whole and undamaged."""
    return done.key == unit.key and done.inputs == reads and is_intact(unit, done)


# ---- the folder ---------------------------------------------------------------------------------


def _prepare_folder(unit: Unit, work: _Work, *, force: bool) -> None:
    """Leave in the folder only what this work would make: all, some parts, or nothing of it."""
    folder = unit.artifact
    folder.mkdir(parents=True, exist_ok=True)
    sealed = read_manifest(folder / COMPLETE)
    before = _read_work(folder / WORK) if sealed is None else _work_of(sealed)
    if force or before is None:
        # The records go first: were this interrupted, what is left must not be trusted.
        for record in (COMPLETE, WORK):
            (folder / record).unlink(missing_ok=True)
        _clear(folder, keep=set())
    else:
        if before != work:
            parts = {part for part, key in work.parts.items() if before.parts.get(part) == key}
            _clear(folder, keep=parts | {COMPLETE, WORK})
        if sealed is not None:
            _drop_damaged(unit, sealed)
    write_atomic(folder / WORK, msgspec.json.encode(work))
    (folder / COMPLETE).unlink(missing_ok=True)


def _work(unit: Unit, reads: tuple[InputRecord, ...]) -> _Work:
    """Return what the unit's folder is to be filled with."""
    return _work_from(unit.key, dict(unit.parts), reads)


def _work_of(sealed: Manifest) -> _Work:
    """Return what a complete folder was filled with."""
    return _work_from(sealed.key, sealed.parts, sealed.inputs)


def _work_from(key: str, parts: Mapping[str, str], reads: tuple[InputRecord, ...]) -> _Work:
    contents = [read.content for read in reads]
    return _Work(
        source=content_hash([key, contents]),
        parts={part: content_hash([part_key, contents]) for part, part_key in parts.items()},
    )


def _read_work(path: Path) -> _Work | None:
    """Return what an unfinished folder was being filled with, None if nothing says so."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Work)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _clear(folder: Path, keep: set[str]) -> None:
    """Delete what is in a folder, but for these names."""
    for path in folder.iterdir():
        if path.name not in keep:
            _delete(path)


def _drop_damaged(unit: Unit, sealed: Manifest) -> None:
    """Delete what is not as a complete folder's record says, so that it is made again."""
    for path, _ in damaged_files(unit, sealed.files):
        path.unlink(missing_ok=True)
    for name in set(result_files(unit.artifact)) - set(sealed.files):
        (unit.artifact / name).unlink()


def _remove_temporaries(folder: Path) -> None:
    """Delete temporaries, but for the record of the work, which goes last."""
    for path in list(folder.rglob("*")):
        inside = path.relative_to(folder)
        if is_temporary(inside) and inside != Path(WORK):
            _delete(path)


def _delete(path: Path) -> None:
    """Delete a file, a link or a folder; it may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
