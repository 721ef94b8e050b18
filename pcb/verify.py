"""Are a result's files those that its manifest describes? No torch.

Small files are read and hashed every time. For large ones the hash is remembered under ``.pcb``
with size, time and inode; as long as those stand, the file is not read again.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pcb.atomic import write_atomic
from pcb.manifest import FileRecord, Manifest, made_by, record_file
from pcb.pipeline import Unit

MEMORY = Path(".pcb") / "seen"
SMALL = 1 << 20
"""Bytes up to which a file is hashed every time."""


def damaged_files(
    unit: Unit, files: Mapping[str, FileRecord], *, reread: bool = False
) -> Iterator[tuple[Path, str]]:
    """Yield every file of a unit that is not as described, with what is wrong with it.

    `reread` hashes large files too, whatever is remembered of them.
    """
    seen = Seen(_memory_of(unit), forget=reread)
    for name, expected in files.items():
        path = unit.artifact / name
        try:
            size = path.stat().st_size
            if size != expected.bytes:
                yield path, f"has {size} bytes where {expected.bytes} are expected"
            elif seen.record(name, path).sha256 != expected.sha256:
                yield path, "does not hold what its manifest says"
        except FileNotFoundError:
            yield path, "is missing"
    seen.save()


def is_intact(unit: Unit, manifest: Manifest) -> bool:
    """Say whether all files of a unit are as its manifest describes them."""
    return next(damaged_files(unit, manifest.files), None) is None


def hash_files(unit: Unit, names: list[str]) -> dict[str, FileRecord]:
    """Return size and hash of these files of a unit."""
    seen = Seen(_memory_of(unit))
    records = {name: seen.record(name, unit.artifact / name) for name in names}
    seen.save()
    return records


def explain_damage(unit: Unit, path: Path, damage: str, reader: str) -> str:
    """Return the one line for a damaged input: the file, who wanted it, the ways out."""
    return (
        f"{path}: {damage}; {reader} reads it; fetch it with `dvc pull {unit.artifact}` "
        f"or make it again with `{made_by(unit)}`"
    )


def _memory_of(unit: Unit) -> Path:
    """Return where the hashes of a unit's files are remembered."""
    return MEMORY / unit.preset / unit.stage / f"{unit.variant}.json"


class Seen:
    """The hashes of large files, remembered in a file as long as a file looks untouched."""

    def __init__(self, memory: Path, *, forget: bool = False) -> None:
        self._path = memory
        self._known = {} if forget else self._read()
        self._changed = False

    def _read(self) -> dict[str, list[int | str]]:
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def record(self, name: str, path: Path) -> FileRecord:
        """Return a file's size and hash, reading it only if it is small or looks touched."""
        status = path.stat()
        look = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(name)
        if status.st_size > SMALL and known is not None and known[:3] == look:
            return FileRecord(bytes=status.st_size, sha256=str(known[3]))
        record = record_file(path)
        if status.st_size > SMALL:
            self._known[name] = [*look, record.sha256]
            self._changed = True
        return record

    def save(self) -> None:
        """Write what was learnt."""
        if self._changed:
            write_atomic(self._path, json.dumps(self._known))
