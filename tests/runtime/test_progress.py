import io

import pytest

from pcb.runtime.progress import Progress


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train/ratio2", "iterations", 100, stream=stream, clock=clock) as bar:
        for step in range(100):
            clock.now += 0.125
            bar.advance(loss=5.0 - step / 100)
    assert stream.getvalue().splitlines() == [
        "train/ratio2: iterations 40/100 40%  8.00/s  0:08 left  loss 4.61",
        "train/ratio2: iterations 80/100 80%  8.00/s  0:02 left  loss 4.21",
        "train/ratio2: 100 iterations in 0:12  8.00/s  loss 4.01",
    ]


def test_terminal_line_is_redrawn() -> None:
    stream, clock = Terminal(), Clock()
    with Progress("tokens", "images", 4, stream=stream, clock=clock) as bar:
        for _ in range(4):
            clock.now += 1
            bar.advance()
    assert stream.getvalue().count("\r\x1b[K") == 5
    assert stream.getvalue().count("\n") == 1


def test_skipped_work_says_nothing_of_the_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("sample/ratio2/t9", "images", 2000, stream=stream, clock=clock) as bar:
        bar.skip(1000)
        clock.now += 10
        bar.advance(500)
        assert bar.line(clock.now).endswith("1500/2000 75%  50.0/s  0:10 left")
        clock.now += 10
        bar.advance(500)
    assert "2000 images in 0:20 (1000 were there)  50.0/s" in stream.getvalue()


def test_rate_follows_the_last_seconds() -> None:
    clock = Clock()
    bar = Progress("train/a", "iterations", 10_000, stream=io.StringIO(), clock=clock)
    for _ in range(100):
        clock.now += 1
        bar.advance(1)
    for _ in range(60):
        clock.now += 1
        bar.advance(10)
    assert bar.rate(clock.now) == pytest.approx(10)


def test_failure_prints_no_last_line() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress("data", "images", 3, stream=stream):
        raise KeyboardInterrupt
    assert stream.getvalue() == ""


def test_nothing_to_do_is_not_a_division_by_zero() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("data", "images", 0, stream=stream, clock=clock) as bar:
        assert bar.line(clock.now) == "data: images 0/0 100%  0.00/s  ? left"
