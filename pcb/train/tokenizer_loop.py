"""The loop of the tokenizer's trainings: iterations, a log, checkpoints, and a place to stop."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pcb.runtime import interrupt
from pcb.runtime.progress import Progress
from pcb.train.checkpoint import load_checkpoint, save_checkpoint

LOG_EVERY = 20
"""Iterations a row of the log: means over batches of all scales."""


@dataclass(kw_only=True)
class Loop(ABC):
    """A training. All that an iteration depends on is in `state` and the settings."""

    FIGURE: ClassVar[str] = "loss"
    """The column of the log that progress shows."""
    folder: Path
    iteration: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    _pending: list[dict[str, float]] = field(default_factory=list)

    @property
    @abstractmethod
    def iterations(self) -> int:
        """Number of iterations of the whole training."""

    @abstractmethod
    def step(self) -> None:
        """Take one optimiser step, and record its figures."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything else that the rest of the run depends on: tensors and plain values."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned, from the CPU."""

    def run(self, progress: Progress, checkpoint_seconds: float) -> None:
        """Train to the end; the folder then holds a checkpoint of the last iteration."""
        progress.skip(self.iteration)
        saved = time.monotonic()
        with interrupt.deferred():
            while self.iteration < self.iterations:
                self.step()
                if self.iteration % LOG_EVERY == 0 or self.iteration == self.iterations:
                    self.log.append({"iteration": self.iteration, **self.row()})
                    self._pending = []
                    progress.advance(0, **{self.FIGURE: self.log[-1][self.FIGURE]})
                progress.advance(1)
                if interrupt.due() or time.monotonic() - saved > checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
                    interrupt.hand_over()
        self.save()

    def record(self, **figures: float) -> None:
        """Count an iteration as done, with its figures."""
        self._pending.append(figures)
        self.iteration += 1

    def row(self) -> dict[str, float]:
        """Return the means of the figures since the last row of the log."""
        rows = self._pending
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    def save(self) -> None:
        """Write the checkpoint from which an equal run continues."""
        progress = {"iteration": self.iteration, "log": self.log, "pending": self._pending}
        save_checkpoint(self.folder, self.state() | progress)

    def resume(self) -> bool:
        """Take over the folder's checkpoint; say whether there was one."""
        state = load_checkpoint(self.folder)
        if state is None:
            return False
        self.restore(state)
        self.iteration, self.log = state["iteration"], state["log"]
        self._pending = state["pending"]
        return True
