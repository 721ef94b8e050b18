"""The cluster's warning that time is up, handled between two steps of a stage. No torch.

A signal may come in the middle of an optimizer step, when what is in memory must not be saved. So
work that has such places runs inside `deferred`, and asks `due` at each of them; work that keeps
whole shards is interrupted at once.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

_depth = 0
_waiting: tuple[int, Handler] | None = None


def watch(number: int) -> None:
    """Put deferral before the handler that a signal has now."""
    handler = signal.getsignal(number)
    if not callable(handler):
        return

    def take(received: int, frame: FrameType | None) -> None:
        global _waiting
        if _depth:
            _waiting = (received, handler)
        else:
            handler(received, frame)

    signal.signal(number, take)


@contextmanager
def deferred() -> Iterator[None]:
    """Hold back signals that come inside, until `hand_over` or the end of the block."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    if not _depth:
        hand_over()


def due() -> bool:
    """Say whether a signal is waiting: save, then call `hand_over`."""
    return _waiting is not None


def hand_over() -> None:
    """Let a waiting signal take its course, which may end the process."""
    global _waiting
    if _waiting is not None:
        (number, handler), _waiting = _waiting, None
        handler(number, None)
