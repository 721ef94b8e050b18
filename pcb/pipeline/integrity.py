"""The check of a result's files against the hashes of its manifest. No torch.

Small files are read and hashed every time. For large ones the hash is remembered under ``.pcb``
with size, time and inode; as long as those stand, the file is not read again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pcb.config.paths import HASHES
from pcb.pipeline.manifest import Manifest
from pcb.pipeline.task import Task
from pcb.runtime.hashing import FileRecord, Seen


def damaged_files(
    task: Task, files: Mapping[str, FileRecord], *, reread: bool = False
) -> Iterator[tuple[Path, str]]:
    """Yield every file of a task that is not as described, with what is wrong with it.

    `reread` hashes large files too, whatever is remembered of them.
    """
    seen = Seen(_memory_of(task), forget=reread)
    for name, expected in files.items():
        path = task.artifact / name
        try:
            size = path.stat().st_size
            if size != expected.bytes:
                yield path, f"has {size} bytes where {expected.bytes} are expected"
            elif seen.record(name, path).sha256 != expected.sha256:
                yield path, "does not hold what its manifest says"
        except FileNotFoundError:
            yield path, "is missing"
    seen.save()


def is_intact(task: Task, manifest: Manifest) -> bool:
    """Say whether all files of a task are as its manifest describes them."""
    return next(damaged_files(task, manifest.files), None) is None


def hash_files(task: Task, names: list[str]) -> dict[str, FileRecord]:
    """Return size and hash of these files of a task."""
    seen = Seen(_memory_of(task))
    records = {name: seen.record(name, task.artifact / name) for name in names}
    seen.save()
    return records


def explain_damage(task: Task, path: Path, damage: str, reader: str) -> str:
    """Return the one line for a damaged input: the file, who wanted it, the ways out."""
    return (
        f"{path}: {damage}; {reader} reads it; fetch it with `dvc pull {task.artifact}` "
        f"or make it again with `{task.command}`"
    )


def _memory_of(task: Task) -> Path:
    """Return where the hashes of a task's files are remembered."""
    return HASHES / task.preset / task.stage / f"{task.variant}.json"
