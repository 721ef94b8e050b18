"""Optimizer, learning rate and moving average of the weights (method section 5)."""

import torch
from torch import nn

from pcb.config import Training


def make_optimizer(model: nn.Module, settings: Training) -> torch.optim.AdamW:
    """AdamW with weight decay on tensors of two or more dims whose name does not end in .bias."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim >= 2 and not name.endswith(".bias")
        (decayed if decays else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    fused = all(parameter.is_cuda for parameter in decayed)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=fused)


def learning_rate(settings: Training, epoch: float) -> float:
    """Return the rate at a time in epochs: linear warm-up from 0, then the steps that have come."""
    rate = settings.learning_rate
    if epoch < settings.warmup_epochs:
        return rate * epoch / settings.warmup_epochs
    for step in settings.steps:
        if epoch >= step.epoch:
            rate *= step.factor
    return rate


class MovingAverage:
    """Exponential moving average of a model's floating-point state."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        values = model.state_dict()
        self.state = {name: tensor.detach().clone() for name, tensor in values.items()}
        moving = [name for name, tensor in values.items() if tensor.is_floating_point()]
        self._values = [values[name] for name in moving]
        self._averages = [self.state[name] for name in moving]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average toward the model's present state."""
        torch._foreach_lerp_(self._averages, self._values, 1 - self.decay)
