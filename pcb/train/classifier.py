"""The objective of the miniature's feature extractor: classes told apart."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pcb.config import Classifier as ClassifierSettings
from pcb.data.images import Images
from pcb.metrics.classifier import Classifier
from pcb.train.loop import Objective

_WEIGHT_DECAY = 0.05
_LABEL_SMOOTHING = 0.05

Batch = tuple[Tensor, Tensor]
"""Pixels, uint8 (B, 3, H, W), and labels (B,)."""


@dataclass(kw_only=True)
class ClassifierObjective(Objective[Batch]):
    """A classifier in training, on random crops of random images."""

    classifier: Classifier
    images: Images
    settings: ClassifierSettings

    def __post_init__(self) -> None:
        settings = self.settings
        self.device = self.classifier.head.weight.device
        self.optimizer = torch.optim.AdamW(self.classifier.parameters(), weight_decay=_WEIGHT_DECAY)
        # It rises and falls once.
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.learning_rate, total_steps=settings.iterations
        )
        random = np.random.Generator(np.random.Philox(key=[settings.seed, 0]))
        counts = (len(self.images), self.images.crops)
        self._draws = [
            tuple(random.integers(count, size=settings.batch_size) for count in counts)
            for _ in range(settings.iterations)
        ]

    @property
    def iterations(self) -> int:
        """Number of iterations of the whole training."""
        return self.settings.iterations

    def batch(self, iteration: int) -> Batch:
        """Return an iteration's pixels and labels."""
        chosen, crops = self._draws[iteration]
        pixels_B3HW = torch.from_numpy(self.images.read(chosen, crops))
        return pixels_B3HW, torch.from_numpy(self.images.labels[chosen])

    def step(self, iteration: int, batch: Batch) -> Tensor:
        """Take one optimizer step; return the loss, (1,)."""
        pixels_B3HW, labels_B = (part.to(self.device) for part in batch)
        logits_BK = self.classifier(pixels_B3HW)[1]
        loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=_LABEL_SMOOTHING)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()[None]

    def row(self, iteration: int, means_F: Tensor) -> dict[str, float]:
        """Return the mean loss since the last row."""
        return {"loss": float(means_F[0])}

    def state(self) -> dict[str, Any]:
        """Return weights, optimizer and place in its schedule."""
        return {
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
