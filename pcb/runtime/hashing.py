"""Hashes of plain data and of files; those of large files are remembered. No torch.

Small files are read and hashed every time. For large ones the hash is remembered under ``.pcb``
with size, time and inode; as long as those stand, the file is not read again.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pcb.config.paths import HASHES
from pcb.errors import UserError
from pcb.runtime.atomic import write_atomic

SMALL = 1 << 20
"""Bytes up to which a file is hashed every time."""


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a result."""

    bytes: int
    sha256: str


def content_hash(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of plain data, the same for equal data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record_file(path: Path) -> FileRecord:
    """Return the size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(bytes=path.stat().st_size, sha256=digest)


class Seen:
    """The hashes of large files, remembered in a file as long as a file looks untouched."""

    def __init__(self, memory: Path, *, forget: bool = False) -> None:
        self._path = memory
        self._known = {} if forget else self._read()
        self._changed = False

    def _read(self) -> dict[str, list[int | str]]:
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
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
        """Write what was learned, where that is possible: a checkout may be another user's."""
        if self._changed:
            # Without it the file is read again next time, which is slower and right.
            with suppress(UserError):
                write_atomic(self._path, json.dumps(self._known))


def file_record(path: Path) -> FileRecord:
    """Return a file's size and SHA-256, without reading it again while it looks untouched."""
    seen = Seen(HASHES / "files.json")
    record = seen.record(str(path.resolve()), path)
    seen.save()
    return record
