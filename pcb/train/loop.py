"""The training loop: from the last checkpoint to the end, saving as it goes."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcb.config import Compute, Training
from pcb.model.transformer import Transformer
from pcb.runtime import interrupt
from pcb.runtime.pool import in_order
from pcb.runtime.progress import Progress
from pcb.runtime.ranks import Ranks, Vote, leave_ranks
from pcb.train.batches import Batch, Batches, model_inputs
from pcb.train.checkpoint import load_checkpoint, save_checkpoint
from pcb.train.objective import Objective
from pcb.train.optim import MovingAverage, learning_rate, make_optimizer

LOG_EVERY = 10
"""Fewest iterations a row of the log: losses stay on the device until then."""
LOG_ROWS = 10_000
"""Most rows of the log: it is part of every checkpoint."""
GO_ON, SAVE, LEAVE = range(3)
"""What ranks wish after an iteration; the greatest wish of any is done by all."""
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(kw_only=True)
class Trainer:
    """A model in training. All that an iteration depends on is in `state` and the settings."""

    model: Transformer
    batches: Batches
    settings: Training
    compute: Compute
    folder: Path
    ranks: Ranks = Ranks()
    iteration: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    _pending: list[Tensor] = field(default_factory=list)
    _vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        self.device = self.model.codebook_VC.device
        self.optimizer = make_optimizer(self.model, self.settings)
        decay = self.settings.ema
        self.average = MovingAverage(self.model, decay) if decay else None
        # Only fp16's range needs loss scaling.
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.settings.precision == "float16"
        )
        self._resume()
        self.objective = Objective(
            self.model, self.compute, head_mlp_decay=self.settings.head_mlp_decay
        )
        self.parallel = self.ranks.parallel(self.objective)
        self._saved = time.monotonic()
        self.log_every = max(LOG_EVERY, -(-self.batches.iterations // LOG_ROWS))

    def run(self, progress: Progress) -> None:
        """Train to the end; the folder then holds a checkpoint of the last iteration."""
        progress.skip(self.iteration)
        self._saved = time.monotonic()
        left = range(self.iteration, self.batches.iterations)
        depth = self.compute.prefetch
        with interrupt.deferred(), ThreadPoolExecutor(max(1, depth), "batches") as pool:
            for batch in in_order(pool, self.batches.__getitem__, left, depth):
                self.step(batch)
                if self.iteration % self.log_every == 0 or self.iteration == left.stop:
                    self._write_row()
                    progress.advance(0, loss=self.log[-1]["loss"])
                progress.advance(1)
                decided = self._decide()
                if decided != GO_ON:
                    self.save()
                if decided == LEAVE:
                    # Ranks go together: none leaves while the first one writes.
                    self.ranks.wait()
                    interrupt.hand_over()
        self.save()

    def step(self, batch: Batch) -> None:
        """Take one optimiser step."""
        rate = learning_rate(self.settings, self.iteration / self.batches.per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self._pending.append(self.backward(batch.to(self.device)))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()
        self.iteration += 1

    def backward(self, batch: Batch) -> Tensor:
        """Add up the gradients of a batch; return the loss of every token in its order, (T,).

        Both are means over the images, of this rank for the losses and of all for the gradients.
        """
        images, left = len(batch.labels_B), len(batch.labels_B)
        losses = []
        for part in batch.by_schedule():
            inputs, codes_BT = model_inputs(part, self.model.codebook_VC)
            mask = self.objective.mask(part.sequence)
            size = self.compute.micro_batch or len(codes_BT)
            for start in range(0, len(codes_BT), size):
                some = slice(start, start + size)
                share = len(codes_BT[some]) / images
                left -= len(codes_BT[some])
                with self.ranks.alone(self.parallel) if left else nullcontext():
                    with self._autocast():
                        losses_T = self.parallel(inputs.of(some), codes_BT[some], mask)
                    self.scaler.scale(losses_T.mean() * share).backward()
                losses.append(losses_T.detach() * share)
        return torch.stack(losses).sum(0)

    def save(self) -> None:
        """Write the checkpoint from which an equal run continues; a call of all ranks together.

        The first rank writes, so what the others know alone goes into it: their pending losses.
        """
        if self._pending:
            self._pending = list(self.ranks.mean(torch.stack(self._pending)))
        if self.ranks.first:
            save_checkpoint(self.folder, self.state())

    def part(self) -> None:
        """Wait for the other ranks and part from them: training is over."""
        self.ranks.wait()
        # Before the group goes: as the group's last owner, what averages gradients would wait for
        # the group's thread with Python's lock in its hands, which that thread may be waiting for.
        self.parallel = self.objective
        leave_ranks(self.ranks)

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.iteration,
            "log": self.log,
            "pending": [losses.cpu() for losses in self._pending],
        }

    def _autocast(self) -> Any:
        dtype = AUTOCAST.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def _decide(self) -> int:
        """Return what the ranks decided after the iteration before, and ask them again.

        A vote is counted an iteration after it was cast, when nobody has to wait for it.
        """
        decided, now = self._vote.outcome(), time.monotonic()
        if decided != GO_ON:
            self._saved = now
        late = now - self._saved > self.compute.checkpoint_seconds
        self._vote = self.ranks.vote(LEAVE if interrupt.due() else SAVE if late else GO_ON)
        return decided

    def _write_row(self) -> None:
        """Add the means since the last row to the log, over all tokens and for every scale."""
        means_T = self.ranks.mean(torch.stack(self._pending).double().mean(0))
        self._pending.clear()
        row = {
            "iteration": self.iteration,
            "epoch": self.iteration / self.batches.per_epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "loss": float(means_T.mean()),
        }
        sizes = self.model.sizes
        for size, part in zip(sizes, means_T.split([s * s for s in sizes]), strict=True):
            row[f"loss_{size}"] = float(part.mean())
        self.log.append(row)

    def _resume(self) -> None:
        """Take over the folder's checkpoint, if there is one."""
        state = load_checkpoint(self.folder, mapped=self.device.type == "cuda")
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            for name, tensor in state["average"].items():
                self.average.state[name].copy_(tensor)
        self.iteration, self.log = state["iteration"], state["log"]
        self._pending = [losses.to(self.device) for losses in state["pending"]]
