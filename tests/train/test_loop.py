"""Training: the loss falls, and an interrupted run ends where an unbroken one does."""

import pytest
import torch

from pcb.data.shards import TokenCache
from pcb.device import compute_exactly
from pcb.errors import UserError
from pcb.model.weights import load_weights, save_weights
from pcb.progress import Progress
from pcb.settings import Training
from pcb.train.batches import Batches
from pcb.train.loop import Trainer
from tests.models import tiny_model
from tests.train.tokens import CODES, SIZES, write_tokens


@pytest.fixture(autouse=True)
def exact():
    compute_exactly(torch.device("cpu"), 1)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, images=32, crops=2)
    return folder


def trainer(tokens, folder, **settings):
    folder.mkdir(exist_ok=True)
    base = {"epochs": 12, "batch_size": 16, "learning_rate": 3e-3, "ema": 0.9}
    training = Training(**{**base, "precision": "float32", **settings})
    model = tiny_model(codes=CODES, classes=10, layers=2)
    cache = TokenCache(tokens, SIZES)
    batches = Batches(cache, training, num_classes=10, codebook_size=CODES)
    return Trainer(model=model, batches=batches, settings=training, folder=folder)


class Killed(Exception):
    """Stands for SIGKILL: nothing after it runs."""


def run(trainer, *, stop_at=None, checkpoint_seconds=1e9):
    step = trainer.step

    def step_or_die(batch):
        if trainer.iteration == stop_at:
            raise Killed
        step(batch)

    trainer.step = step_or_die
    with Progress("train/test", "iterations", trainer.batches.iterations) as progress:
        trainer.run(progress, checkpoint_seconds)


def test_the_loss_falls(tokens, tmp_path):
    unbroken = trainer(tokens, tmp_path / "run", epochs=40, ema=0)
    run(unbroken)
    assert unbroken.log[-1]["loss"] < 0.9 * unbroken.log[0]["loss"]
    row = unbroken.log[0]
    counts = {1: 1, 2: 4, 4: 16}
    mean = sum(row[f"loss_{size}"] * n for size, n in counts.items()) / 21
    assert row["loss"] == pytest.approx(mean)


@pytest.mark.parametrize("stop_at", [1, 7, 23])
def test_killed_and_started_again_ends_where_an_unbroken_run_does(tokens, tmp_path, stop_at):
    unbroken = trainer(tokens, tmp_path / "unbroken")
    run(unbroken)
    with pytest.raises(Killed):
        run(trainer(tokens, tmp_path / "killed"), stop_at=stop_at, checkpoint_seconds=0)
    resumed = trainer(tokens, tmp_path / "killed")
    assert resumed.iteration == stop_at
    run(resumed)
    assert resumed.log == unbroken.log
    for name, tensor in unbroken.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
        assert torch.equal(resumed.average.state[name], unbroken.average.state[name]), name


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_close_to_float32(tokens, tmp_path, precision):
    exact, rounded = (
        trainer(tokens, tmp_path / "a"),
        trainer(tokens, tmp_path / "b", precision=precision),
    )
    run(exact)
    run(rounded)
    assert rounded.log[-1]["loss"] == pytest.approx(exact.log[-1]["loss"], rel=0.02)


def test_weights_of_another_ratio_are_refused_by_name(tmp_path):
    save_weights(tmp_path / "model.safetensors", tiny_model(sizes=(1, 3)).state_dict())
    with pytest.raises(UserError, match=r"model\.safetensors.*position_embedding\.weight"):
        load_weights(tmp_path, tiny_model(sizes=(1, 2, 4)))


def test_weights_of_another_tokenizer_are_refused(tmp_path):
    model = tiny_model()
    save_weights(
        tmp_path / "model.safetensors", {**model.state_dict(), "codebook_VC": -model.codebook_VC}
    )
    with pytest.raises(UserError, match="another codebook"):
        load_weights(tmp_path, model)


def test_missing_and_truncated_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="train the model first"):
        load_weights(tmp_path, tiny_model())
    save_weights(tmp_path / "model.safetensors", tiny_model().state_dict())
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not readable weights"):
        load_weights(tmp_path, tiny_model())
