"""Weight decay groups, the learning rate's course, and the moving average."""

import pytest
import torch

from pcb.config import LearningRateStep, Training
from pcb.train.optim import MovingAverage, learning_rate, make_optimizer
from tests.models import tiny_model

LARGE = Training(
    epochs=205,
    batch_size=64,
    learning_rate=5e-5,
    steps=(LearningRateStep(epoch=200, factor=0.2),),
)
SMALL = Training(
    epochs=110,
    learning_rate=1e-4,
    steps=(
        LearningRateStep(epoch=100, factor=0.3162278),
        LearningRateStep(epoch=105, factor=0.3162278),
    ),
)


@pytest.mark.parametrize(
    ("settings", "epoch", "rate"),
    [
        (LARGE, 0, 0.0),
        (LARGE, 0.25, 1.25e-5),
        (LARGE, 1, 5e-5),
        (LARGE, 199.9, 5e-5),
        (LARGE, 200, 1e-5),
        (SMALL, 99, 1e-4),
        (SMALL, 102, 3.162278e-5),
        (SMALL, 109, 1e-5),
    ],
)
def test_published_learning_rates(settings, epoch, rate):
    assert learning_rate(settings, epoch) == pytest.approx(rate, rel=1e-6)


def test_decay_is_on_matrices_and_not_on_biases():
    model = tiny_model()
    optimizer = make_optimizer(model, Training(epochs=1, weight_decay=0.01))
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert optimizer.param_groups[0]["weight_decay"] == 0.01
    assert optimizer.param_groups[1]["weight_decay"] == 0
    for name, parameter in model.named_parameters():
        expected = parameter.ndim >= 2 and not name.endswith(".bias")
        assert (id(parameter) in decayed) == expected, name
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


def test_moving_average_is_the_geometric_sum():
    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = MovingAverage(model, 0.9)
    for value in (1.0, 2.0):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    expected = 0.9 * (0.1 * 1.0) + 0.1 * 2.0
    torch.testing.assert_close(average.state["weight"], torch.full((1, 2), expected))
