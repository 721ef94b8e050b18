"""The training loop: from the last checkpoint to the end, saving as it goes."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pcb import interrupt
from pcb.model.layers import Attending
from pcb.model.transformer import Transformer
from pcb.progress import Progress
from pcb.settings import Training
from pcb.train.batches import Batch, Batches, model_inputs
from pcb.train.checkpoint import load_checkpoint, save_checkpoint
from pcb.train.optim import MovingAverage, learning_rate, make_optimizer
from pcb.train.ranks import Ranks

LOG_EVERY = 10
"""Iterations a row of the log: losses stay on the device until then."""
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(kw_only=True)
class Trainer:
    """A model in training. All that an iteration depends on is in `state` and the settings."""

    model: Transformer
    batches: Batches
    settings: Training
    folder: Path
    ranks: Ranks = Ranks()
    iteration: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    _pending: list[Tensor] = field(default_factory=list)
    _stop: bool = False

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

    def run(self, progress: Progress, checkpoint_seconds: float) -> None:
        """Train to the end; the folder then holds a checkpoint of the last iteration."""
        progress.skip(self.iteration)
        saved = time.monotonic()
        with interrupt.deferred():
            while self.iteration < self.batches.iterations:
                self.step(self.batches[self.iteration])
                if self.iteration % LOG_EVERY == 0 or self.iteration == self.batches.iterations:
                    self._write_row()
                    progress.advance(0, loss=self.log[-1]["loss"])
                progress.advance(1)
                if self._stop or time.monotonic() - saved > checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
                    if self._stop:
                        # Ranks go together: none leaves while the first one writes.
                        self.ranks.wait()
                        interrupt.hand_over()
        self.save()

    def step(self, batch: Batch) -> None:
        """Take one optimiser step."""
        rate = learning_rate(self.settings, self.iteration / self.batches.per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses_T = self._losses(self.ranks.share(batch))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses_T.mean()).backward()
        self._stop = self.ranks.average_gradients(self.model.parameters(), stop=interrupt.due())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        self._pending.append(losses_T.detach())
        self.iteration += 1

    def save(self) -> None:
        """Write the checkpoint from which an equal run continues."""
        self._flush()
        if self.ranks.first:
            save_checkpoint(self.folder, self.state())

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.iteration,
            "log": self.log,
            "pending": self._pending,
        }

    def _losses(self, batch: Batch) -> Tensor:
        """Cross-entropy of every token, mean over the images: (T,) in the sequence's order."""
        inputs, codes_BT, sequence = model_inputs(batch, self.model.codebook_VC)
        with self._autocast():
            logits_BTV = self.model(inputs, Attending(mask=sequence.mask_LL()))
        losses = F.cross_entropy(
            logits_BTV.float().flatten(0, 1), codes_BT.flatten(), reduction="none"
        )
        return losses.view(codes_BT.shape).mean(0)

    def _autocast(self) -> Any:
        dtype = AUTOCAST.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def _flush(self) -> None:
        """Bring pending losses to the CPU, where a checkpoint can hold them."""
        self._pending = [losses.cpu() for losses in self._pending]

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
        state = load_checkpoint(self.folder)
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
