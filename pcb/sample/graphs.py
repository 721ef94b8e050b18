"""CUDA graphs of a sampler's steps: one call to the GPU in place of hundreds."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class StepGraphs(Generic[T]):
    """Steps that are captured when they are first taken, and replayed from then on.

    A step reads and writes the same tensors whenever it is taken, and gives the same if it is taken
    twice. What it returns is overwritten by the next step's replay: read it before, or copy it.
    """

    def __init__(self, device: torch.device) -> None:
        # One stream, since a library keeps a workspace per stream for good, and own, so that other
        # graphs of the process share none of it.
        self._stream = torch.cuda.Stream(device)
        # Steps follow one another, so that all can use the memory of the first.
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, T]] = {}

    def run(self, step: int, take: Callable[[int], T]) -> T:
        """Take a step, by its graph."""
        if step not in self._captured:
            self._captured[step] = self._capture(step, take)
        graph, result = self._captured[step]
        graph.replay()
        return result

    def _capture(self, step: int, take: Callable[[int], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        """Take a step once outside, where libraries allocate what they keep, then record it."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            take(step)
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Threads of this process that make later batches may allocate meanwhile.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            result = take(step)
        return graph, result
