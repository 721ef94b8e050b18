"""Training steps against the released code's: losses, every gradient, and what AdamW makes."""

import pytest
import torch

from pcb.config import Compute, LearningRateStep, Training
from pcb.external.tensor_names import rename
from pcb.train.optim import make_optimizer
from pcb.train.transformer import TransformerObjective
from tests.train.recorded import arrays_of, batch_of, model_of, named

STEPS = [
    ("train-tiny", "step-separate"),
    ("train-tiny", "step-joined"),
    ("train-tiny", "step-replaced"),
    ("train-tiny-head-mlp", "step-replaced"),
]
ADAMW = "train-tiny/adamw.npz"


class Recorded:
    """Stands for `Batches`: what the recorded runs drew."""

    per_epoch, iterations = 4, 12


pytestmark = pytest.mark.usefixtures("exact")


def objective(model, **settings):
    base = {"epochs": 3, "batch_size": 4, "precision": "float32"}
    return TransformerObjective(
        model=model,
        batches=Recorded(),
        settings=Training(**{**base, **settings}),
        compute=Compute(),
    )


@pytest.mark.parametrize(("folder", "step"), STEPS)
def test_losses_and_every_gradient_are_the_recorded_ones(folder, step):
    arrays, training = arrays_of(f"{folder}/{step}.npz"), objective(model_of(folder))
    losses_T = training.backward(batch_of(arrays))
    sizes = training.model.sizes
    assert float(losses_T.mean()) == pytest.approx(float(arrays["loss"]), abs=1e-6)
    for size, part in zip(sizes, losses_T.split([s * s for s in sizes]), strict=True):
        assert float(part.mean()) == pytest.approx(float(arrays[f"loss_{size}"]), abs=2e-6)
    expected = named(arrays, "grad/")
    found = {name: p.grad for name, p in training.model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(
            found[name], gradient, atol=1e-7, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_steps_differ_in_what_they_record():
    parts = [arrays_of(f"train-tiny/{step}.npz") for _, step in STEPS[:3]]
    assert len({float(part["loss"]) for part in parts}) == 3
    replaced = [bool((p["replaced_4"] != p["codes_4"]).any()) for p in parts]
    assert replaced == [False, False, True]
    assert [bool(p["join_remainder"]) for p in parts[:2]] == [False, True]


def test_the_head_mlps_decay_is_in_the_gradient_alone():
    """Without it, the recorded gradients of the head MLP are missed and all others met."""
    folder, step = STEPS[3]
    arrays = arrays_of(f"{folder}/{step}.npz")
    training = objective(model_of(folder), head_mlp_decay=0.0)
    losses_T = training.backward(batch_of(arrays))
    assert float(losses_T.mean()) == pytest.approx(float(arrays["loss"]), abs=1e-6)
    expected = named(arrays, "grad/")
    for name, parameter in training.model.named_parameters():
        equal = torch.allclose(parameter.grad, expected[name], atol=1e-7, rtol=1e-4)
        assert equal != name.startswith("head_mlp."), name


def test_the_head_mlps_decay_counts_once_whatever_the_parts():
    folder, step = STEPS[3]
    arrays = arrays_of(f"{folder}/{step}.npz")
    training = objective(model_of(folder))
    training.compute = Compute(micro_batch=1)
    training.backward(batch_of(arrays))
    for name, gradient in named(arrays, "grad/").items():
        found = training.model.get_parameter(name).grad
        torch.testing.assert_close(found, gradient, atol=1e-7, rtol=1e-4)


def test_twelve_adamw_steps_are_the_recorded_ones():
    arrays = arrays_of(ADAMW)
    training = objective(
        model_of("train-tiny"),
        learning_rate=float(arrays["learning_rate"]),
        warmup_epochs=float(arrays["warmup_epochs"]),
        steps=(
            LearningRateStep(
                epoch=float(arrays["step_epoch"]), factor=float(arrays["step_factor"])
            ),
        ),
        weight_decay=float(arrays["weight_decay"]),
        betas=tuple(arrays["betas"].tolist()),
        ema=float(arrays["ema_rate"]),
    )
    assert int(arrays["per_epoch"]) == Recorded.per_epoch
    for step in range(Recorded.iterations):
        losses_T = training.step(step, batch_of(arrays, step))
        assert training.optimizer.param_groups[0]["lr"] == float(arrays["rates"][step])
        loss = float(losses_T.mean())
        assert loss == pytest.approx(float(arrays["losses"][step]), abs=1e-5)
        if step + 1 in (1, 2, 12):
            compare(dict(training.model.named_parameters()), named(arrays, f"after{step + 1}/"))
    assert training.average is not None
    averages = {n: training.average.state[n] for n, _ in training.model.named_parameters()}
    compare(averages, named(arrays, "ema12/"))


def compare(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name].detach(), tensor, atol=2e-6, rtol=1e-5, msg=lambda t, n=name: f"{n}: {t}"
        )


def test_decayed_tensors_are_the_recorded_ones():
    model = model_of("train-tiny")
    optimizer = make_optimizer(model, Training(epochs=1))
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert names == {rename(name) for name in arrays_of(ADAMW)["decayed"].tolist()}
