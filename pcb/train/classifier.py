"""The miniature's reference: trains its feature extractor and measures it.

It also leaves what the reference images look like to it, which every setting of the sweep is
compared with.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pcb.config import Classifier as ClassifierSettings
from pcb.data.images import REFERENCE_IMAGES, REFERENCE_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from pcb.errors import UserError
from pcb.metrics.classifier import WEIGHTS, Classifier, classify
from pcb.metrics.statistics import statistics_of
from pcb.metrics.target import Target, save_target
from pcb.runtime.progress import Progress
from pcb.runtime.weights import save_weights


def build(
    settings: ClassifierSettings,
    data: Path,
    folder: Path,
    *,
    num_classes: int,
    batch: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, Any]:
    """Train, measure on held-out digits, and refuse a classifier that is not good enough.

    `data` holds the images, `folder` gets the weights and the view of the reference images.
    """
    images = np.load(data / TRAIN_IMAGES, mmap_mode="r")
    torch.manual_seed(settings.seed)
    classifier = Classifier(num_classes, settings.features).to(device)
    train(classifier, images, np.load(data / TRAIN_LABELS), settings, progress)
    classifier.eval()
    reference = torch.from_numpy(np.load(data / REFERENCE_IMAGES))
    features, logits = classify(classifier, reference, batch)
    labels = torch.from_numpy(np.load(data / REFERENCE_LABELS))
    accuracy = float((logits.argmax(1) == labels).double().mean())
    if accuracy < settings.min_accuracy:
        raise UserError(
            f"reference: held-out accuracy {accuracy:.3f} is below "
            f"classifier.min_accuracy = {settings.min_accuracy}; train it for more iterations"
        )
    save_target(folder, Target(features, statistics_of(features)))
    save_weights(folder / WEIGHTS, classifier.state_dict())
    return {"accuracy": accuracy, "reference_images": len(labels)}


def train(
    classifier: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    settings: ClassifierSettings,
    progress: Progress,
) -> None:
    """Adam with a rate that rises and falls once, on random renderings of random digits."""
    device = classifier.head.weight.device
    random = np.random.Generator(np.random.Philox(key=[settings.seed, 0]))
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.iterations
    )
    for _ in range(settings.iterations):
        chosen = random.integers(len(images), size=settings.batch_size)
        renderings = random.integers(images.shape[1], size=settings.batch_size)
        pixels = torch.from_numpy(images[chosen, renderings]).to(device)
        targets = torch.from_numpy(labels[chosen]).to(device)
        loss = F.cross_entropy(classifier(pixels)[1], targets, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.advance(1)
