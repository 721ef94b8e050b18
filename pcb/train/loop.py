"""The one training loop: iterations, log, checkpoints, signals, ranks and progress.

It knows nothing of what is trained: an objective takes the steps and says what its state is.
"""

# Shape suffixes: F figures that an objective records of an iteration.

import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.runtime import interrupt
from pcb.runtime.pool import in_order
from pcb.runtime.progress import Progress
from pcb.runtime.ranks import Ranks, Vote, leave_ranks
from pcb.train.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint, set_aside

LOG_EVERY = 20
_STATE = {"objective", "iteration", "log", "total", "count"}
"""What a checkpoint holds."""
GO_ON, SAVE, LEAVE = range(3)
"""What ranks wish after an iteration; the greatest wish of any is done by all."""

Batch = TypeVar("Batch")


class Objective(ABC, Generic[Batch]):
    """What is trained, and how. All that a step depends on is in `state` and the settings."""

    FIGURE: ClassVar[str] = "loss"
    """The column of the log that progress shows."""
    device: torch.device
    optimizer: torch.optim.Optimizer

    @property
    @abstractmethod
    def iterations(self) -> int:
        """Number of iterations of the whole training."""

    @property
    def log_every(self) -> int:
        """Iterations per row of the log."""
        return LOG_EVERY

    @abstractmethod
    def batch(self, iteration: int) -> Batch:
        """Return the batch of an iteration: the same whenever, and in whichever thread, asked."""

    @abstractmethod
    def step(self, iteration: int, batch: Batch) -> Tensor:
        """Take one optimizer step; return its figures, (F,), of which a row has the means.

        All are finite as long as training goes well.
        """

    @abstractmethod
    def row(self, iteration: int, means_F: Tensor) -> dict[str, float]:
        """Return a row of the log after so many iterations; means_F is float64, on the CPU."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on: tensors and plain values."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned, from the CPU. Called before the first step."""

    def start(self) -> None:
        """Begin anew: called before the first step where there is nothing to restore."""

    def release(self) -> None:
        """Let go of what is shared with other ranks: no step follows."""


@dataclass(kw_only=True)
class Loop:
    """A training run in a folder, from its last checkpoint to the end."""

    objective: Objective[Any]
    folder: Path
    checkpoint_seconds: float
    """Longest time between two checkpoints."""
    prefetch: int = 0
    """Batches made ahead, each in a thread of its own."""
    ranks: Ranks = Ranks()
    iteration: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    # Figures since the last row stay on their device: a sum is not waited for.
    _total_F: Tensor | float = 0.0
    _count: int = 0
    _checkpoint: int = 0
    """Iteration of the folder's checkpoint, 0 without one."""
    _begun: bool = False
    _vote: Vote = field(default_factory=Vote)
    _saved: float = field(default_factory=time.monotonic)

    def resume(self) -> bool:
        """Take over the folder's checkpoint, or start anew; say whether there was one."""
        # Ranks of one machine would fill its memory; a GPU takes copies of all that is mapped.
        mapped = self.ranks.world > 1 and self.objective.device.type == "cuda"
        state = load_checkpoint(self.folder, mapped=mapped)
        self._begun = True
        if state is not None and not state.keys() >= _STATE:
            set_aside(self.folder, f"{self.folder / CHECKPOINT}: of another version of the code")
            state = None
        if state is None:
            self.objective.start()
            return False
        self.objective.restore(state["objective"])
        self.iteration, self.log = state["iteration"], state["log"]
        self._checkpoint = self.iteration
        self._total_F, self._count = state["total"].to(self.objective.device), state["count"]
        return True

    def run(self, progress: Progress) -> None:
        """Train to the end; the folder then holds a checkpoint of the last iteration.

        `resume` has been called.
        """
        assert self._begun
        progress.skip(self.iteration)
        self._saved = time.monotonic()
        with interrupt.deferred(), closing(self._batches()) as batches:
            for batch in batches:
                self.step(batch)
                last = self.iteration == self.objective.iterations
                if last or self.iteration % self.objective.log_every == 0:
                    self.log.append(self._row())
                    figure = self.objective.FIGURE
                    progress.advance(0, **{figure: self.log[-1][figure]})
                progress.advance(1)
                decided = self._decide()
                if decided != GO_ON:
                    self.save()
                if decided == LEAVE:
                    self._leave()
        self.save()

    def step(self, batch: Any) -> None:
        """Let the objective take a step, and count it."""
        figures_F = self.objective.step(self.iteration, batch)
        self._total_F = self._total_F + figures_F.double()
        self._count += 1
        self.iteration += 1
        # Elsewhere the next row tells: a GPU is not waited for, and ranks stop together.
        if self.ranks.world == 1 and figures_F.device.type == "cpu":
            self._check(figures_F, 1)

    def save(self) -> None:
        """Write the checkpoint from which an equal run continues; a call of all ranks together.

        The first rank writes, so what the others know alone goes into it: figures since the last
        row of the log.
        """
        self._saved = time.monotonic()
        total_F = torch.as_tensor(self._total_F)
        if self._count:
            self._total_F = total_F = self.ranks.mean(total_F)
            self._check(total_F, self._count)
        if self.ranks.first:
            state = {
                "objective": self.objective.state(),
                "iteration": self.iteration,
                "log": self.log,
                "total": total_F.cpu(),
                "count": self._count,
            }
            save_checkpoint(self.folder, state)
        self._checkpoint = self.iteration

    def part(self) -> None:
        """Wait for the other ranks and part from them: training is over."""
        self.ranks.wait()
        self._release()

    def _batches(self) -> Generator[Any, None, None]:
        """Yield the batches of the iterations that are left."""
        left = range(self.iteration, self.objective.iterations)
        if self.prefetch == 0:
            yield from map(self.objective.batch, left)
            return
        with ThreadPoolExecutor(self.prefetch, "batches") as pool:
            yield from in_order(pool, self.objective.batch, left, self.prefetch)

    def _row(self) -> dict[str, float]:
        """Return the log's next row, of all ranks' means since the last one."""
        assert isinstance(self._total_F, Tensor)
        means_F = self.ranks.mean(self._total_F / self._count).cpu()
        self._check(means_F, self._count)
        self._total_F, self._count = 0.0, 0
        return {"iteration": self.iteration, **self.objective.row(self.iteration, means_F)}

    def _check(self, figures_F: Tensor, count: int) -> None:
        """Raise UserError if what the last `count` iterations recorded is not finite."""
        if bool(figures_F.isfinite().all()):
            return
        first, last = self.iteration - count + 1, self.iteration
        when = f"at iteration {last}" if first == last else f"in iterations {first} to {last}"
        rate = self.objective.optimizer.param_groups[0]["lr"]
        kept = f"of iteration {self._checkpoint}" if self._checkpoint else "none"
        raise UserError(
            f"{self.folder}: the loss is no longer finite {when} (learning rate {rate:.3g}): "
            f"training has diverged; last good checkpoint: {kept}; the same settings end here "
            "again, so lower the learning rate, or look at the data"
        )

    def _decide(self) -> int:
        """Return what is to be done after an iteration; ranks agree on it.

        Their vote is counted an iteration after it was cast, when nobody has to wait for it.
        """
        if self.ranks.world == 1:
            return self._wish()
        decided = self._vote.outcome()
        if decided != GO_ON:
            self._saved = time.monotonic()
        self._vote = self.ranks.vote(self._wish())
        return decided

    def _wish(self) -> int:
        late = time.monotonic() - self._saved > self.checkpoint_seconds
        return LEAVE if interrupt.due() else SAVE if late else GO_ON

    def _leave(self) -> None:
        """Take the signal for which a checkpoint was written.

        The first rank's ends its process; that of another may not, as only one is to be requeued.
        """
        # Ranks go together: none leaves while the first one writes.
        leaving = self.ranks.of_first(interrupt.due())
        self.ranks.wait()
        interrupt.hand_over()
        if leaving and not self.ranks.first:
            # Another step would wait for a rank that is gone.
            self._release()
            raise SystemExit(0)

    def _release(self) -> None:
        # Before the group goes: as the group's last owner, what averages gradients would wait for
        # the group's thread with Python's lock in its hands, which that thread may be waiting for.
        self.objective.release()
        leave_ranks(self.ranks)
