"""The tokenizer's training: it learns, and an interrupted run ends where an unbroken one does."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from pcb.config import Digits, TokenizerTraining
from pcb.data.digits import load_glyphs
from pcb.data.images import ArrayImages
from pcb.metrics.reconstruction import measure, psnr, reconstructions
from pcb.runtime import interrupt
from pcb.runtime.device import compute_exactly
from pcb.runtime.progress import Progress
from pcb.stages.data import train_images
from pcb.tokenizer.vq import Tokenizer
from pcb.train.loop import Loop
from pcb.train.tokenizer import TokenizerObjective, initialize, learning_rate
from tests.models import TINY_AUTOENCODER

SETTINGS = TokenizerTraining(iterations=60, batch_size=8, learning_rate=5e-3, scales=(1, 2, 4))
FOREVER = 1e9


pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    settings = Digits(image_size=16, digit_size=14, renderings=2)
    return train_images(load_glyphs().take(np.arange(100)), settings)


def trainer(images: np.ndarray, folder: Path, settings=SETTINGS, seconds: float = FOREVER) -> Loop:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(settings.seed)
    tokenizer = Tokenizer(TINY_AUTOENCODER)
    initialize(tokenizer)
    labeled = ArrayImages(images, np.zeros(len(images), dtype=np.int64))
    objective = TokenizerObjective(tokenizer=tokenizer, images=labeled, settings=settings)
    loop = Loop(objective=objective, folder=folder, checkpoint_seconds=seconds)
    loop.resume()
    return loop


def batches(images: np.ndarray, size: int) -> list[np.ndarray]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def run(training: Loop) -> Loop:
    training.run(Progress("tokenizer", "iterations", training.objective.iterations))
    return training


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory) -> Loop:
    compute_exactly(torch.device("cpu"), 1)
    return run(trainer(images, tmp_path_factory.mktemp("trained")))


def test_the_loss_falls(trained):
    rows = trained.log
    assert [row["iteration"] for row in rows] == [20, 40, 60]
    assert rows[-1]["reconstruction"] < 0.6 * rows[0]["reconstruction"]
    assert rows[-1]["perplexity"] > 4


@pytest.mark.parametrize("stop", [7, 15, 33])
def test_an_interrupted_run_ends_like_an_unbroken_one(trained, images, tmp_path, stop):
    """Before, at and after the first iteration with codes, which is the 16th."""
    first = trainer(images, tmp_path)
    for iteration in range(stop):
        first.step(first.objective.batch(iteration))
    first.save()
    first.step(first.objective.batch(stop))  # lost with the process
    second = run(trainer(images, tmp_path))
    for name, tensor in trained.objective.tokenizer.state_dict().items():
        assert torch.equal(second.objective.tokenizer.state_dict()[name], tensor), name
    assert [row["iteration"] for row in second.log][-1] == 60
    np.testing.assert_equal(second.log[-1]["loss"], trained.log[-1]["loss"])


def test_a_warning_is_taken_between_iterations_once_all_is_saved(images, tmp_path, monkeypatch):
    """A cluster's, in the middle of the 7th; the process then ends, as a requeued job does."""

    def leave(*_):
        raise SystemExit

    before = signal.signal(signal.SIGUSR2, leave)
    interrupt.watch(signal.SIGUSR2)
    first = trainer(images, tmp_path)
    step = first.step

    def warned_step(batch):
        if first.iteration == 6:
            os.kill(os.getpid(), signal.SIGUSR2)
        step(batch)

    monkeypatch.setattr(first, "step", warned_step)
    with pytest.raises(SystemExit):
        run(first)
    signal.signal(signal.SIGUSR2, before)
    assert trainer(images, tmp_path).iteration == 7


def test_checkpoints_are_taken_on_time(images, tmp_path):
    settings = TokenizerTraining(iterations=3, batch_size=2, scales=(1, 2))
    training = trainer(images, tmp_path, settings, seconds=0)
    saves = []
    training.save = lambda: saves.append(training.iteration)
    run(training)
    assert saves == [1, 2, 3, 3]


def test_a_batch_is_the_same_whenever_it_is_asked_for(trained):
    assert torch.equal(trained.objective.batch(5), trained.objective.batch(5))
    sides = [trained.objective.batch(i).shape[-1] for i in range(300)]
    assert set(sides) == {4, 8, 16}
    # A uniform scale with p = 0.9, else the finest.
    assert sides.count(16) / 300 == pytest.approx(0.9 / 3 + 0.1, abs=0.08)


def test_codes_stay_unit_vectors_and_are_used(trained, images):
    codebook = trained.objective.tokenizer.codebook
    torch.testing.assert_close(codebook.norm(dim=1), torch.ones(16))
    facts = measure(trained.objective.tokenizer.eval(), batches(images[:50, 0], 16), [1, 2, 4])
    assert facts["codebook_usage"]["4"] > 0.6
    assert set(facts) == {"psnr", "codebook_usage", "perplexity"}


def test_measures_do_not_depend_on_the_batch(trained, images):
    one, other = (
        measure(trained.objective.tokenizer, batches(images[:30, 1], n), [2, 4], similarity=True)
        for n in (7, 30)
    )
    for name, found in one.items():
        assert found == pytest.approx(other[name], rel=1e-4), name


def test_reconstructions_are_images_beside_their_decodings(trained, images):
    pair = reconstructions(trained.objective.tokenizer, images[:5, 0])
    assert (pair.shape, pair.dtype) == ((2, 5, 3, 16, 16), np.uint8)
    np.testing.assert_array_equal(pair[0], images[:5, 0])
    error = np.square((pair[0] - pair[1].astype(float)) / 127.5).mean()
    assert psnr(error) > 10


def test_learning_rate_rises_and_falls():
    settings = TokenizerTraining(iterations=1000, learning_rate=2.0)
    rates = [learning_rate(settings, i) for i in range(1000)]
    assert rates[0] == pytest.approx(2.0 / 50)
    assert np.argmax(rates) == pytest.approx(50, abs=2)
    assert rates[-1] == pytest.approx(0.04, rel=0.01)
