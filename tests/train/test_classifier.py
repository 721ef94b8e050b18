"""The miniature's feature extractor: an interrupted training ends where an unbroken one does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pcb.config import Classifier as Settings
from pcb.data.images import ArrayImages
from pcb.metrics.classifier import Classifier
from pcb.runtime.progress import Progress
from pcb.train.classifier import ClassifierObjective
from pcb.train.loop import Loop

SETTINGS = Settings(iterations=30, batch_size=8, features=16, min_accuracy=0)


pytestmark = pytest.mark.usefixtures("exact")


def training(folder: Path) -> Loop:
    """Digits that are told apart by their brightness."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    labels = np.arange(40) % 4
    noise = np.random.default_rng(0).integers(0, 20, (40, 2, 3, 16, 16))
    images = (60 * labels[:, None, None, None, None] + noise).astype(np.uint8)
    objective = ClassifierObjective(
        classifier=Classifier(4, SETTINGS.features),
        images=ArrayImages(images, labels),
        settings=SETTINGS,
    )
    loop = Loop(objective=objective, folder=folder, checkpoint_seconds=1e9)
    loop.resume()
    return loop


def run(loop: Loop) -> Loop:
    loop.run(Progress("reference", "iterations", SETTINGS.iterations))
    return loop


@pytest.mark.parametrize("stop", [1, 13, 19])
def test_an_interrupted_run_ends_like_an_unbroken_one(tmp_path: Path, stop: int) -> None:
    unbroken = run(training(tmp_path / "unbroken"))
    first = training(tmp_path / "broken")
    for iteration in range(stop):
        first.step(first.objective.batch(iteration))
    first.save()
    second = training(tmp_path / "broken")
    assert second.iteration == stop
    run(second)
    for name, tensor in unbroken.objective.classifier.state_dict().items():
        assert torch.equal(second.objective.classifier.state_dict()[name], tensor), name
    assert second.log[-1] == unbroken.log[-1]
    assert unbroken.log[-1]["loss"] < unbroken.log[0]["loss"]
