"""The objective of the paper: a transformer learns every token's code (method section 5)."""

# Shape suffixes: B images, T tokens in the order of the sequence, V codebook size, C code dim.

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pcb.config import Compute, Training
from pcb.model.transformer import Transformer
from pcb.runtime.ranks import Ranks
from pcb.tokenizer.cache import Codes
from pcb.train.batches import Batch, Batches, model_inputs
from pcb.train.loop import Objective
from pcb.train.model_loss import ModelLoss
from pcb.train.optim import MovingAverage, learning_rate, make_optimizer

LOG_EVERY = 10
"""Fewest iterations per row of the log: losses stay on the device until then."""
LOG_ROWS = 10_000
"""Most rows of the log: it is part of every checkpoint."""
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(kw_only=True)
class TransformerObjective(Objective[Batch]):
    """A transformer in training, on the device where it is."""

    model: Transformer
    batches: Batches
    settings: Training
    compute: Compute
    ranks: Ranks = Ranks()

    def __post_init__(self) -> None:
        self.device = self.model.codebook_VC.device
        self.optimizer = make_optimizer(self.model, self.settings)
        decay = self.settings.ema
        self.average = MovingAverage(self.model, decay) if decay else None
        # Only fp16's range needs loss scaling.
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.settings.precision == "float16"
        )
        self.loss = ModelLoss(self.model, self.compute, head_mlp_decay=self.settings.head_mlp_decay)
        self.parallel = self.ranks.parallel(self.loss)

    @property
    def iterations(self) -> int:
        """Number of iterations of the whole training."""
        return self.batches.iterations

    @property
    def log_every(self) -> int:
        """Iterations per row of the log."""
        return max(LOG_EVERY, -(-self.iterations // LOG_ROWS))

    def batch(self, iteration: int) -> Batch:
        """Return this rank's part of an iteration's images, on the CPU."""
        return self.batches[iteration]

    def step(self, iteration: int, batch: Batch) -> Tensor:
        """Take one optimizer step; return the loss of every token in its order, (T,)."""
        rate = learning_rate(self.settings, iteration / self.batches.per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses_T = self.backward(batch.to(self.device))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()
        return losses_T

    def backward(self, batch: Batch) -> Tensor:
        """Add up the gradients of a batch; return the loss of every token in its order, (T,).

        Both are means over the images, of this rank for the losses and of all for the gradients.
        """
        images, left = len(batch.labels_B), len(batch.labels_B)
        losses = []
        for part in batch.by_schedule():
            inputs, codes_BT = model_inputs(part, self.model.codebook_VC)
            mask = self.loss.mask(part.sequence)
            size = self.compute.micro_batch or len(codes_BT)
            for start in range(0, len(codes_BT), size):
                some = slice(start, start + size)
                fraction = len(codes_BT[some]) / images
                left -= len(codes_BT[some])
                with self.ranks.alone(self.parallel) if left else nullcontext():
                    with self._autocast():
                        losses_T = self.parallel(inputs.of(some), codes_BT[some], mask)
                    self.scaler.scale(losses_T.mean() * fraction).backward()
                losses.append(losses_T.detach() * fraction)
        return torch.stack(losses).sum(0)

    def row(self, iteration: int, means_T: Tensor) -> dict[str, float]:
        """Return epoch, learning rate, and the mean loss of all tokens and of every scale's."""
        row = {
            "epoch": iteration / self.batches.per_epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "loss": float(means_T.mean()),
        }
        sizes = self.model.sizes
        for size, part_T in zip(sizes, means_T.split([s * s for s in sizes]), strict=True):
            row[f"loss_{size}"] = float(part_T.mean())
        return row

    def state(self) -> dict[str, Any]:
        """Return weights, their moving average, optimizer and loss scale."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; only the optimizer may keep a tensor on the CPU."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            for name, tensor in state["average"].items():
                self.average.state[name].copy_(tensor)

    def release(self) -> None:
        """Let go of what averages gradients over the ranks."""
        self.parallel = self.loss

    def _autocast(self) -> Any:
        dtype = AUTOCAST.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()


def objective_of(
    model: Transformer, codes: Codes, settings: Training, compute: Compute, ranks: Ranks
) -> TransformerObjective:
    """Return the objective of a model, where it is, on this rank's part of batches of codes."""
    batches = Batches(
        codes,
        settings,
        num_classes=model.num_classes,
        codebook_size=len(model.codebook_VC),
        order=model.settings.order,
        own=ranks.own,
    )
    return TransformerObjective(
        model=model, batches=batches, settings=settings, compute=compute, ranks=ranks
    )
