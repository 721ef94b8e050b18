"""Locks between processes, which the kernel lets go of when their holder dies. No torch."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pcb.runtime.atomic import disk_errors_explained


class Held(Exception):
    """Another process has the lock: `holder` is its number, as far as the lock's file says it."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"held by process {holder}")
        self.holder = holder


_KEPT: list[TextIO] = []
"""Files of the locks that are held until this process ends; closing one would let go of it."""


@contextmanager
def hold(path: Path, waiting: str | None, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock, alone or `shared`; if others have it, print `waiting`, if given, and wait.

    Raises UserError if the lock's file cannot be written.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with _opened(path) as file:
        if not _take(file, kind):
            if waiting is not None:
                print(waiting, flush=True)
            fcntl.flock(file, kind)
        yield


def hold_until_exit(path: Path) -> None:
    """Hold a lock alone for as long as this process lives. Processes that it starts do not.

    Raises Held if another process has it, UserError if the lock's file cannot be written.
    """
    file = _opened(path)
    if not _take(file, fcntl.LOCK_EX):
        with file:
            raise Held(file.read().strip())
    with disk_errors_explained(path):
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    _KEPT.append(file)


def is_held(path: Path) -> bool:
    """Say whether a process holds a lock."""
    try:
        with path.open() as file:
            return not _take(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _opened(path: Path) -> TextIO:
    """Open a lock's file for reading and writing, and leave what it says."""
    with disk_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    file.seek(0)
    return file


def _take(file: TextIO, kind: int) -> bool:
    """Take a lock unless others have it; say whether that was done."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
