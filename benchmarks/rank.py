"""Ranks of a training that is timed: the first one is the harness, the others run this module."""

import os
import subprocess
import sys
from dataclasses import dataclass

import torch

from benchmarks.training import random_trainer
from pcb.runtime.ranks import join_ranks
from pcb.runtime.rendezvous import variables_of_ranks
from pcb.train.loop import Trainer

_CPU = torch.device("cpu")
_STEP = b"."


@dataclass(frozen=True)
class Team:
    """The first of some ranks of the miniature's training, a thread each, and the others."""

    trainer: Trainer
    others: "tuple[subprocess.Popen[bytes], ...]"

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
        return cls(_trainer(batch), others)

    def step(self) -> None:
        """Take a step together."""
        for other in self.others:
            assert other.stdin is not None
            other.stdin.write(_STEP)
        _step(self.trainer)


def _trainer(batch: int) -> Trainer:
    """Return this rank's trainer, once all ranks have met."""
    torch.set_num_threads(1)
    return random_trainer("mini", batch, _CPU, ranks=join_ranks(_CPU, batch))


def _step(trainer: Trainer) -> None:
    trainer.step(trainer.batches[trainer.iteration])


def main() -> None:
    """Take a step whenever the first rank says so, until it goes."""
    trainer = _trainer(int(sys.argv[1]))
    while sys.stdin.buffer.read(1) == _STEP:
        _step(trainer)


if __name__ == "__main__":
    main()
