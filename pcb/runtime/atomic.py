"""Atomic files: written under a hidden name, then renamed, so that they are whole or absent.

A full disk or a folder that cannot be written becomes a `UserError` that names the path. No torch.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pcb.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_NEARLY_NOTHING = 64 * 1024
"""Bytes left on a disk that is taken to be full."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a hidden name beside `path` to write to; it becomes `path` if the block succeeds.

    The hidden name keeps the suffix, which `np.save` and others look at. Parent folders are made.
    If the block fails, `path` is as it was and the hidden file is gone.

    Raises UserError for a full disk and for a folder that cannot be written.
    """
    hidden = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield hidden
        with hidden.open("rb") as file:
            os.fsync(file.fileno())
        # A new inode, so that a link into DVC's cache is replaced and never written through.
        os.replace(hidden, path)
    except BaseException as error:
        explained = explain_disk_error(error, path)
        with suppress(OSError):  # It may not have come to be, or be what cannot be touched.
            hidden.unlink()
        if explained is None:
            raise
        raise explained from error


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file (text as UTF-8) so that it is never seen half-written."""
    with atomic(path) as hidden:
        hidden.write_bytes(data if isinstance(data, bytes) else data.encode())


def whole_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder that match a pattern, sorted, without hidden names.

    Those are being written, or were left behind by a process that was killed.
    """
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


@contextmanager
def disk_errors_explained(path: Path) -> Iterator[None]:
    """Turn what a full or refusing disk raises inside into the UserError that names the place."""
    try:
        yield
    except Exception as error:
        explained = explain_disk_error(error, path)
        if explained is None:
            raise
        raise explained from error


def explain_disk_error(error: BaseException, path: Path) -> UserError | None:
    """Return the one line for a disk that is full or refuses, or None if it was something else.

    `path` is what was being written, or the folder it was to stand in. NumPy, PyTorch and
    safetensors report a full disk without its error number; their words, or that no space is
    left, are then the evidence.
    """
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return None
    number = error.errno if isinstance(error, OSError) else None
    says_so = os.strerror(errno.ENOSPC) in str(error)
    if number in _FULL or (number is None and (says_so or _is_full(path))):
        return UserError(f"{path}: no space left; free some, then give the same command again")
    if number in _REFUSED:
        place = getattr(error, "filename", None) or path
        reason = os.strerror(number).lower()
        return UserError(f"{place}: {reason}; let this user write there, or choose another place")
    return None


def _is_full(path: Path) -> bool:
    """Say whether the disk that holds `path` has next to nothing left."""
    try:
        disk = os.statvfs(path if path.is_dir() else path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NEARLY_NOTHING
