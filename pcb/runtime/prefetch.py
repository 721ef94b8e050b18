"""Prefetch of batches in a thread of its own.

On a GPU the thread hands over the next batch's work while this one's results are waited for, so
that the GPU never waits for Python; on a CPU the thread uses a second core.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import TypeVar

import torch

from pcb.runtime.pool import in_order

Batch = TypeVar("Batch")


def prefetched(batches: Iterable[Batch], depth: int) -> Iterator[Batch]:
    """Yield the batches; up to `depth` are made before their turn, with 0 each when it is due.

    They are made as they would be here: with as many CPU threads, on which the rounding of a
    product depends, and without gradients where there are none. What the making of one raises is
    raised at its turn.
    """
    if depth == 0:
        yield from batches
        return
    made, end = iter(batches), object()
    inference, threads = torch.is_inference_mode_enabled(), torch.get_num_threads()

    def make(_: int) -> Batch | object:
        with torch.inference_mode(inference):
            return next(made, end)

    with (
        ThreadPoolExecutor(1, "prefetch", torch.set_num_threads, (threads,)) as pool,
        closing(in_order(pool, make, count(), depth)) as found,
    ):
        for batch in found:
            if batch is end:
                return
            yield batch  # type: ignore[misc]
