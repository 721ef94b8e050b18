"""Manifests: the small files that say what a result is, what it was made from and by whom.

A manifest stands in git at `Task.manifest`; a copy stands beside the data as ``complete.json``,
written last, so that a folder which has it is whole. Nothing here computes a result. No torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pcb.errors import UserError
from pcb.pipeline.task import Input
from pcb.runtime.atomic import write_atomic
from pcb.runtime.hashing import FileRecord, content_hash

COMPLETE = "complete.json"


class InputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One task that was read: which, made by which settings, and what it held."""

    name: str
    key: str
    content: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Who made a result, with what and when; this doesn't decide what it is and enters no hash."""

    commit: str | None
    """Git commit of the code, None where it did not run from a repository."""
    modified: bool | None
    """Whether the code differed from that commit."""
    packages: dict[str, str]
    machine: dict[str, str]
    seconds: float
    """Wall time of the run that completed it; an interrupted run's time is not in it."""
    finished: str
    """UTC, ISO 8601."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a result is. `content` says the same for the same files, whoever made them and when."""

    preset: str
    stage: str
    variant: str
    key: str
    settings: Any
    inputs: tuple[InputRecord, ...]
    partitions: dict[str, str]
    """Sub-folder -> key, of those partitions that stand on their own."""
    files: dict[str, FileRecord]
    """Path inside the artifact's folder -> size and hash."""
    content: str
    results: dict[str, Any]
    """What was measured or counted: numbers by name."""
    provenance: Provenance

    def files_of(self, partitions: tuple[str, ...]) -> dict[str, FileRecord]:
        """Return the files of some partitions and those of none; no partitions means all files."""
        if not partitions:
            return self.files
        others = set(self.partitions) - set(partitions)
        return {path: file for path, file in self.files.items() if _top(path) not in others}

    def content_of(self, partitions: tuple[str, ...]) -> str:
        """Return the content hash of what a reader of these partitions sees."""
        return content_of_files(self.files_of(partitions))


def content_of_files(files: Mapping[str, FileRecord]) -> str:
    """Return the content hash of files: of their paths and bytes, nothing else."""
    return content_hash({path: file.sha256 for path, file in files.items()})


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None if there is none.

    Raises UserError if it is damaged (a merge conflict, say).
    """
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), Manifest)
    except FileNotFoundError:
        return None
    except (ValueError, msgspec.ValidationError) as error:
        raise UserError(
            f"{path}: not a manifest ({error}); restore it (`git checkout` or `dvc checkout`), or "
            f"delete it to make the result again"
        ) from None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest, whole or not at all."""
    text = json.dumps(msgspec.to_builtins(manifest), indent=1, sort_keys=True, allow_nan=False)
    write_atomic(path, text + "\n")


def record_input(read: Input, manifest: Manifest) -> InputRecord:
    """Return what a manifest says of a task that was read."""
    content = manifest.content_of(read.partitions)
    return InputRecord(name=read.task.name, key=read.key, content=content)


def result_files(folder: Path) -> list[str]:
    """Return the paths of a result's files, sorted: all but temporaries and ``complete.json``.

    A temporary has a leading dot, in its own name or in that of a sub-folder, or ends in ``.part``.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = (path.as_posix() for path in found if not is_temporary(path))
    return sorted(name for name in names if name != COMPLETE)


def is_temporary(path: Path) -> bool:
    """Say whether a path inside an artifact's folder is a temporary."""
    return path.suffix == ".part" or any(name.startswith(".") for name in path.parts)


def _top(path: str) -> str:
    return path.partition("/")[0]
