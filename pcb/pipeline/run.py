"""Making one unit: lock it, check what it reads, let its stage work, describe what came out.

A stage's entry gets a `Job` and writes finished files under their final names (`atomic`); killed
anywhere, it finds them again when the same command is given. `run_unit` writes ``complete.json``
and the manifest last. No torch: importing an entry is what costs seconds, and a unit that is
already complete does not import it.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pcb.config import Preset
from pcb.config.paths import LOCKS
from pcb.errors import UserError
from pcb.pipeline.folder import WORK, prepare_folder, remove_temporaries, work_for
from pcb.pipeline.integrity import damaged_files, explain_damage, hash_files, is_intact
from pcb.pipeline.manifest import (
    COMPLETE,
    InputRecord,
    Manifest,
    content_of_files,
    made_by,
    read_manifest,
    record_input,
    result_files,
    write_manifest,
)
from pcb.pipeline.provenance import certify
from pcb.pipeline.staleness import Manifests, read_manifests, why_stale
from pcb.pipeline.tasks import Unit
from pcb.runtime.atomic import disk_errors_explained
from pcb.runtime.lock import hold
from pcb.runtime.progress import Progress


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
    share: tuple[int, int] = (0, 1)
    """(i, n): this process makes every n-th shard from i on; (0, 1) is all of them."""

    def makes(self, shard: int) -> bool:
        """Say whether a shard, by number, is this process's to make."""
        first, step = self.share
        return shard % step == first

    @property
    def whole(self) -> bool:
        """Whether this process makes all shards, and so finishes the unit."""
        return self.share == (0, 1)


Entry = Callable[[Job], Mapping[str, Any]]
"""A stage's work: writes files into the job's folder and returns facts, JSON-able numbers."""


def run_unit(unit: Unit, preset: Preset, entry: Entry, *, force: bool = False) -> Manifest:
    """Make a unit unless it is complete, and return its manifest.

    `force` makes it again from nothing. Raises UserError if an input is missing, stale or damaged,
    or if the disk is full or cannot be written.
    """
    with _locked(unit):
        sources, reads = _sources(unit)
        # Asked under the lock: whoever held it may have done the work.
        done = None if force else _complete_one(unit, reads)
        if done is None:
            _check_inputs(unit, sources)
            print(f"{unit.name}: making {unit.artifact} (key {unit.key})", flush=True)
            done = _make(unit, preset, entry, sources, reads, force=force)
        (unit.artifact / WORK).unlink(missing_ok=True)
        write_manifest(unit.manifest, done)
        return done


def already_made(unit: Unit) -> bool:
    """Say whether a unit is complete; if so, its manifest is written. Raises as `run_unit` does."""
    with _locked(unit):
        done = _complete_one(unit, _sources(unit)[1])
        if done is not None:
            write_manifest(unit.manifest, done)
        return done is not None


def _sources(unit: Unit) -> tuple[Mapping[str, Manifest], tuple[InputRecord, ...]]:
    """Return the manifests of what a unit reads, and what its own says of them."""
    sources = _source_manifests(unit)
    return sources, tuple(record_input(read, sources[read.unit.name]) for read in unit.inputs)


def _complete_one(unit: Unit, reads: tuple[InputRecord, ...]) -> Manifest | None:
    """Return the record of a folder that is what is asked for, whole and undamaged."""
    done = read_manifest(unit.artifact / COMPLETE)
    if done is None or not _is_complete(unit, reads, done):
        return None
    print(f"{unit.name}: already complete (key {unit.key})", flush=True)
    return done


def run_share(unit: Unit, preset: Preset, entry: Entry, share: tuple[int, int]) -> None:
    """Make some shards of a unit, beside processes that make others; `run_unit` then finishes it.

    Raises UserError as `run_unit` does.
    """
    with _locked(unit, shared=True):
        sources, reads = _sources(unit)
        # The first one here empties the folder of other work, while the others wait.
        with _locked(unit, purpose="-prepare"):
            if _complete_one(unit, reads) is not None:
                return
            _check_inputs(unit, sources)
            prepare_folder(unit, work_for(unit, reads), force=False)
        print(f"{unit.name}: making share {share[0] + 1} of {share[1]}", flush=True)
        with disk_errors_explained(unit.artifact):
            entry(_job(unit, preset, sources, share))


def follow_unit(unit: Unit, preset: Preset, entry: Entry) -> None:
    """Take part in the making of a unit that another process seals: a rank but the first.

    The entry meets the first rank, which has prepared the folder by then. Raises as `run_unit`.
    """
    sources, reads = _sources(unit)
    if _complete_one(unit, reads) is None:
        _check_inputs(unit, sources)
        entry(_job(unit, preset, sources))


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
    with disk_errors_explained(folder):
        prepare_folder(unit, work_for(unit, reads), force=force)
        facts = dict(entry(_job(unit, preset, sources)))
        remove_temporaries(folder)
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


def _job(
    unit: Unit,
    preset: Preset,
    sources: Mapping[str, Manifest],
    share: tuple[int, int] = (0, 1),
) -> Job:
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
        share=share,
    )


def _locked(unit: Unit, *, shared: bool = False, purpose: str = "") -> AbstractContextManager[None]:
    """Hold the unit's lock, or one for a purpose; if another process has it, say so and wait."""
    path = LOCKS / unit.preset / unit.stage / f"{unit.variant}{purpose}.lock"
    waiting = None if purpose else f"{unit.name}: another process is making it; waiting for that"
    return hold(path, waiting, shared=shared)


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
