"""Batches that a thread makes before their turn."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from pcb.runtime.prefetch import prefetched


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_order_is_kept_and_few_batches_wait(depth: int) -> None:
    made = []

    def batches() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            yield number

    seen = []
    for number in prefetched(batches(), depth):
        seen.append(number)
        time.sleep(0.02)
        # Those that wait, and the one whose turn came.
        assert len(made) <= len(seen) + depth
    assert seen == list(range(6))
    assert list(prefetched([], depth)) == []


def test_the_next_batch_is_made_while_one_is_worked_on() -> None:
    second = threading.Event()

    def batches() -> Iterator[int]:
        yield 0
        second.set()
        yield 1

    for number in prefetched(batches(), 1):
        if number == 0:
            assert second.wait(10)


def test_what_making_raises_is_raised_at_its_turn() -> None:
    def batches() -> Iterator[int]:
        yield 0
        raise ValueError("no more")

    found = prefetched(batches(), 2)
    assert next(found) == 0
    with pytest.raises(ValueError, match="no more"):
        next(found)


def test_batches_are_computed_as_they_would_be_here() -> None:
    """With as many threads, on which rounding depends, and without gradients where there are none.

    The count here is not the one that a new thread would have.
    """
    here = torch.get_num_threads()
    weight = torch.ones(2, requires_grad=True)

    def batches() -> Iterator[tuple[int, bool, bool]]:
        yield torch.get_num_threads(), torch.is_inference_mode_enabled(), (2 * weight).requires_grad

    for threads in (here, here + 3):
        torch.set_num_threads(threads)
        assert list(prefetched(batches(), 1)) == [(threads, False, True)]
        with torch.inference_mode():
            assert list(prefetched(batches(), 1)) == [(threads, True, False)]


def test_who_stops_early_stops_the_thread() -> None:
    endless = prefetched(iter(int, 1), 2)
    assert next(endless) == 0
    endless.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
