"""Ranks of a training that is timed: the first one is the harness, the others run this module."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import torch

from benchmarks.training import random_objective
from pcb.runtime.ranks import join_ranks
from pcb.runtime.rendezvous import variables_of_ranks
from pcb.train.transformer import TransformerObjective

_CPU = torch.device("cpu")
_STEP = b"."


@dataclass(frozen=True)
class Team:
    """The first of some ranks of the miniature's training, a thread each, and the others."""

    objective: TransformerObjective
    others: "tuple[subprocess.Popen[bytes], ...]"
    iterations: Iterator[int] = field(default_factory=count)

    @classmethod
    def start(cls, world: int, batch: int) -> "Team":
        """Start the others, which end when this process does, and become the first rank."""
        own, *rest = variables_of_ranks(world)
        command = [sys.executable, "-m", "benchmarks.rank", str(batch)]
        others = tuple(
            subprocess.Popen(command, env={**os.environ, **their}, stdin=subprocess.PIPE, bufsize=0)
            for their in rest
        )
        os.environ.update(own)
        return cls(_objective(batch), others)

    def step(self) -> None:
        """Take a step together."""
        for other in self.others:
            assert other.stdin is not None
            other.stdin.write(_STEP)
        _step(self.objective, next(self.iterations))


def _objective(batch: int) -> TransformerObjective:
    """Return this rank's objective, once all ranks have met."""
    torch.set_num_threads(1)
    return random_objective("mini", batch, _CPU, ranks=join_ranks(_CPU, batch))


def _step(objective: TransformerObjective, iteration: int) -> None:
    objective.step(iteration, objective.batch(iteration))


def main() -> None:
    """Take a step whenever the first rank says so, until it goes."""
    objective = _objective(int(sys.argv[1]))
    iterations = count()
    while sys.stdin.buffer.read(1) == _STEP:
        _step(objective, next(iterations))


if __name__ == "__main__":
    main()
