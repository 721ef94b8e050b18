"""Progress of a long stage: rate, time left and figures such as the loss.

On a terminal one line is redrawn; elsewhere (a pipe, a log) a plain line follows every few seconds,
so that it reads well through ``tee`` and when several tasks write to one place. No torch.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO, TypeAlias

PLAIN_INTERVAL = 5.0
"""Seconds between two lines where the output is not a terminal."""
TERMINAL_INTERVAL = 0.2
WINDOW = 30.0
"""Seconds over which the rate is taken: what was done long ago says little of what is to come."""


class Progress:
    """Counts work done and prints it; use it as a context manager so that the last line comes."""

    def __init__(
        self,
        task: str,
        what: str,
        total: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count `total` pieces of `what` (`iterations`, `images`) for the task of this name."""
        self.task, self.what, self.total = task, what, total
        self.done = 0
        self.figures: dict[str, float] = {}
        self._stream = stream if stream is not None else sys.stdout
        self._terminal = self._stream.isatty()
        self._interval = TERMINAL_INTERVAL if self._terminal else PLAIN_INTERVAL
        self._clock = clock
        self._started = self._shown = clock()
        self._skipped = 0
        self._marks = deque([(self._started, 0)])

    def advance(self, n: int = 1, **figures: float) -> None:
        """Count `n` more pieces, and print if it is time to; figures stand behind the rate."""
        self.done += n
        self.figures.update(figures)
        now = self._clock()
        if now - self._shown >= self._interval:
            self._mark(now)
            self._show(self.line(now))
            self._shown = now

    def skip(self, n: int) -> None:
        """Count `n` pieces that an earlier run has done: they say nothing of the rate."""
        self.done += n
        self._skipped += n
        self._marks = deque((when, done + n) for when, done in self._marks)

    def rate(self, now: float) -> float:
        """Return pieces per second over the last seconds; 0 before anything was done."""
        when, done = self._marks[0]
        return (self.done - done) / (now - when) if now > when else 0.0

    def line(self, now: float) -> str:
        """Return the line: count, percent, rate, time left, figures."""
        rate = self.rate(now)
        left = f"{_clock_time((self.total - self.done) / rate)} left" if rate else "? left"
        percent = f"{100 * self.done // self.total}%" if self.total else "100%"
        head = f"{self.task}: {self.what} {self.done}/{self.total} {percent}"
        return "  ".join([head, _rate(rate), left, *self._figures()])

    def close(self) -> None:
        """Print the last line: how much was done, how long it took."""
        now = self._clock()
        seconds, done = now - self._started, self.done - self._skipped
        rate = done / seconds if seconds > 0 else 0.0
        head = f"{self.task}: {self.done} {self.what} in {_clock_time(seconds)}"
        if self._skipped:
            head += f" ({self._skipped} were there)"
        self._show("  ".join([head, _rate(rate), *self._figures()]))
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif self._terminal:
            self._stream.write("\n")

    def _mark(self, now: float) -> None:
        """Remember how far it had come, and forget what lies before the window."""
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()

    def _figures(self) -> list[str]:
        return [f"{name} {value:.4g}" for name, value in self.figures.items()]

    def _show(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()


def _rate(rate: float) -> str:
    """Return a rate with about three digits: `0.42/s`, `41.3/s`, `1286/s`."""
    digits = 0 if rate >= 100 else 1 if rate >= 10 else 2
    return f"{rate:.{digits}f}/s"


def _clock_time(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


ShowProgress: TypeAlias = Callable[[str, int], Progress]
"""``progress("images", 2000)`` returns a context manager with `.advance(n, loss=0.1)`."""
