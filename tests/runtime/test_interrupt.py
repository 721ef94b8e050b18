"""A warning from the cluster is taken between two steps, or at once where there are none."""

import os
import signal
from collections.abc import Iterator

import pytest

from pcb.runtime import interrupt


@pytest.fixture
def taken() -> Iterator[list[int]]:
    """Return the signals that the original handler has got."""
    got: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: got.append(number))
    interrupt.watch(signal.SIGUSR2)
    yield got
    signal.signal(signal.SIGUSR2, before)


def send() -> None:
    os.kill(os.getpid(), signal.SIGUSR2)


def test_outside_of_steps_it_is_taken_at_once(taken: list[int]) -> None:
    send()
    assert taken == [signal.SIGUSR2]
    assert not interrupt.due()


def test_between_steps_it_waits_until_it_is_handed_over(taken: list[int]) -> None:
    with interrupt.deferred():
        send()
        assert taken == [] and interrupt.due()
        interrupt.hand_over()
        assert taken == [signal.SIGUSR2] and not interrupt.due()
    assert taken == [signal.SIGUSR2]


def test_at_the_end_of_the_steps_it_is_taken(taken: list[int]) -> None:
    with interrupt.deferred():
        with interrupt.deferred():
            send()
        assert taken == []
    assert taken == [signal.SIGUSR2]


def test_a_signal_that_nobody_handles_stays_so() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    interrupt.watch(signal.SIGUSR2)
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    signal.signal(signal.SIGUSR2, before)
