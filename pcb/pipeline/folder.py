"""An artifact's folder while it is filled: what an earlier run left is kept or removed. No torch.

``.work.json`` says what an unfinished folder is being filled with, ``complete.json`` what a
finished one holds. A run that finds its own work resumes from the finished files; any other begins
anew, but for partitions that did not change.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pcb.pipeline.integrity import damaged_files
from pcb.pipeline.manifest import (
    COMPLETE,
    InputRecord,
    Manifest,
    is_temporary,
    read_manifest,
    result_files,
)
from pcb.pipeline.task import Task
from pcb.runtime.atomic import write_atomic
from pcb.runtime.hashing import content_hash

NEW = Path(".new")
"""Where the successor of a result that stands in git is made, inside its folder."""
WORK = ".work.json"
"""Says what an unfinished folder is being filled with."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder is filled with: two runs with equal works make the same files."""

    source: str
    """Hash of the task's key and of what it reads."""
    partitions: dict[str, str]
    """The same for each of its partitions."""


def prepare_folder(task: Task, work: Work, *, force: bool) -> None:
    """Leave in the folder only what this work would make: all, some partitions, or nothing."""
    folder = task.artifact
    folder.mkdir(parents=True, exist_ok=True)
    if task.in_git:
        # What people read stays until its successor is whole, which is quickly made.
        shutil.rmtree(folder / NEW, ignore_errors=True)
        return
    sealed = read_manifest(folder / COMPLETE)
    before = _read_work(folder / WORK) if sealed is None else _work_of(sealed)
    if force or before is None:
        # The records go first: were this interrupted, what is left must not be trusted.
        for record in (COMPLETE, WORK):
            (folder / record).unlink(missing_ok=True)
        _clear(folder, keep=set())
    else:
        if before != work:
            same = work.partitions.items() & before.partitions.items()
            _clear(folder, keep={partition for partition, _ in same} | {COMPLETE, WORK})
        if sealed is not None:
            _drop_damaged(task, sealed)
    write_atomic(folder / WORK, msgspec.json.encode(work))
    (folder / COMPLETE).unlink(missing_ok=True)


def replace_by_new(folder: Path) -> None:
    """Put what was made in `NEW` in the place of all else that the folder holds."""
    new = folder / NEW
    names = [path.relative_to(new) for path in sorted(new.rglob("*")) if path.is_file()]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(folder / name)
    for old in result_files(folder):
        if Path(old) not in names:
            (folder / old).unlink()
    shutil.rmtree(new, ignore_errors=True)
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def work_for(task: Task, reads: tuple[InputRecord, ...]) -> Work:
    """Return what the task's folder is to be filled with."""
    return _work_from(task.key, dict(task.partitions), reads)


def _work_of(sealed: Manifest) -> Work:
    """Return what a complete folder was filled with."""
    return _work_from(sealed.key, sealed.partitions, sealed.inputs)


def _work_from(key: str, partitions: Mapping[str, str], reads: tuple[InputRecord, ...]) -> Work:
    contents = [read.content for read in reads]
    return Work(
        source=content_hash([key, contents]),
        partitions={name: content_hash([own, contents]) for name, own in partitions.items()},
    )


def _read_work(path: Path) -> Work | None:
    """Return what an unfinished folder was being filled with, None if nothing says so."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Work)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _clear(folder: Path, keep: set[str]) -> None:
    """Delete what is in a folder, but for these names."""
    for path in folder.iterdir():
        if path.name not in keep:
            _delete(path)


def _drop_damaged(task: Task, sealed: Manifest) -> None:
    """Delete what is not as a complete folder's record says, so that it is made again."""
    for path, _ in damaged_files(task, sealed.files):
        path.unlink(missing_ok=True)
    for name in set(result_files(task.artifact)) - set(sealed.files):
        (task.artifact / name).unlink()


def remove_temporaries(folder: Path) -> None:
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
