"""Locks between processes, which the kernel lets go of when their holder dies. No torch."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pcb.runtime.atomic import disk_errors_explained


@contextmanager
def hold(path: Path, waiting: str | None, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock, alone or `shared`; if others have it, print `waiting`, if given, and wait.

    Raises UserError if the lock's file cannot be written.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with disk_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                print(waiting, flush=True)
            fcntl.flock(file, kind)
        yield


def is_held(path: Path) -> bool:
    """Say whether a process holds a lock."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
