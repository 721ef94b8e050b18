"""CUDA graphs of a drawing's steps: one call to the GPU in place of hundreds."""

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
        self._device = device
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
        current, aside = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            take(step)
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Steps follow one another, so that all can use the memory of the first.
        pool = next((graph.pool() for graph, _ in self._captured.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            result = take(step)
        return graph, result
