"""Learning rates of the published runs, bit by bit at every iteration that is recorded."""

import math

import numpy as np
import pytest

from pcb.config import Training
from pcb.config.loader import load_preset
from pcb.train.optim import learning_rate
from tests.train.recorded import arrays_of

IMAGES = 1_281_167
RUNS = {"S": "s-2x", "L": "l-2x"}


@pytest.fixture(scope="module")
def arrays():
    return arrays_of("learning_rates.npz")


def training_of(size: str) -> Training:
    """The preset `paper`'s own settings."""
    training = load_preset("paper").models[RUNS[size]].training
    assert training is not None
    return training


@pytest.mark.parametrize("size", RUNS)
def test_rates_are_the_recorded_ones(arrays, size):
    training = training_of(size)
    per_epoch = IMAGES // training.batch_size
    assert per_epoch == int(arrays[f"{size}_per_epoch"])
    iterations = round(training.epochs * per_epoch)
    assert iterations == int(arrays[f"{size}_iterations"])
    rates = np.array([learning_rate(training, i / per_epoch) for i in range(iterations)])
    warmup = arrays[f"{size}_warmup"]
    np.testing.assert_array_equal(rates[: len(warmup)], warmup)
    changes = np.flatnonzero(np.diff(rates[len(warmup) - 1 :])) + len(warmup)
    np.testing.assert_array_equal(changes, arrays[f"{size}_changes"])
    np.testing.assert_array_equal(rates[changes], arrays[f"{size}_rate_after_change"])
    assert rates[len(warmup) - 1] == float(arrays[f"{size}_first_rate"])
    assert math.fsum(rates) == pytest.approx(float(arrays[f"{size}_sum"]), rel=1e-12)
