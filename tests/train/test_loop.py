"""Training: the loss falls, and an interrupted run ends where an unbroken one does."""

import re

import pytest
import torch

from pcb.config import Compute, Training
from pcb.errors import UserError
from pcb.model.weights import load_weights
from pcb.runtime.progress import Progress
from pcb.runtime.weights import save_weights
from pcb.tokenizer.cache import TokenCache
from pcb.train import transformer
from pcb.train.batches import Batches
from pcb.train.checkpoint import CHECKPOINT, DAMAGED
from pcb.train.loop import Loop
from pcb.train.transformer import TransformerObjective
from tests.models import tiny_model
from tests.train.tokens import CODES, SIZES, write_tokens

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, images=32, crops=2)
    return folder


def trainer(tokens, folder, compute=None, **settings):
    folder.mkdir(exist_ok=True)
    base = {"epochs": 12, "batch_size": 16, "schedules": 2, "learning_rate": 3e-3, "ema": 0.9}
    training = Training(**{**base, "precision": "float32", **settings})
    model = tiny_model(codes=CODES, classes=10, layers=2)
    cache = TokenCache.open(tokens, SIZES)
    batches = Batches(cache, training, num_classes=10, codebook_size=CODES)
    compute = compute or Compute(checkpoint_seconds=1e9)
    loop = Loop(
        objective=TransformerObjective(
            model=model, batches=batches, settings=training, compute=compute
        ),
        folder=folder,
        checkpoint_seconds=compute.checkpoint_seconds,
        prefetch=compute.prefetch,
    )
    loop.resume()
    return loop


class Killed(Exception):
    """Stands for SIGKILL: nothing after it runs."""


def run(trainer, *, stop_at=None):
    step = trainer.step

    def step_or_die(batch):
        if trainer.iteration == stop_at:
            raise Killed
        step(batch)

    trainer.step = step_or_die
    with Progress("train/test", "iterations", trainer.objective.iterations) as progress:
        trainer.run(progress)


def test_the_loss_falls(tokens, tmp_path):
    unbroken = trainer(tokens, tmp_path / "run", epochs=40, ema=0)
    run(unbroken)
    assert unbroken.log[-1]["loss"] < 0.9 * unbroken.log[0]["loss"]
    row = unbroken.log[0]
    counts = {1: 1, 2: 4, 4: 16}
    mean = sum(row[f"loss_{size}"] * n for size, n in counts.items()) / 21
    assert row["loss"] == pytest.approx(mean)


@pytest.mark.parametrize("stop_at", [2, 8, 22])
def test_killed_and_started_again_ends_where_an_unbroken_run_does(tokens, tmp_path, stop_at):
    unbroken = trainer(tokens, tmp_path / "unbroken")
    run(unbroken)
    always = Compute(checkpoint_seconds=1e-9)
    with pytest.raises(Killed):
        run(trainer(tokens, tmp_path / "killed", always), stop_at=stop_at)
    resumed = trainer(tokens, tmp_path / "killed")
    assert resumed.iteration == stop_at
    run(resumed)
    assert resumed.log == unbroken.log
    for name, tensor in unbroken.objective.model.state_dict().items():
        assert torch.equal(resumed.objective.model.state_dict()[name], tensor), name
        assert torch.equal(
            resumed.objective.average.state[name], unbroken.objective.average.state[name]
        ), name


@pytest.mark.parametrize("compute", [{"prefetch": 0}, {"prefetch": 5}, {"recompute": True}])
def test_how_it_is_computed_changes_no_bit(tokens, tmp_path, compute):
    usual, other = (
        trainer(tokens, tmp_path / "a", epochs=3),
        trainer(tokens, tmp_path / "b", Compute(**compute), epochs=3),
    )
    run(usual)
    run(other)
    assert other.log == usual.log
    for name, tensor in usual.objective.model.state_dict().items():
        assert torch.equal(other.objective.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("micro_batch", [1, 5, 16, 100])
def test_gradients_add_up_to_those_of_the_batch(tokens, tmp_path, micro_batch):
    whole, parts = (
        trainer(tokens, tmp_path / "a", epochs=3),
        trainer(tokens, tmp_path / "b", Compute(micro_batch=micro_batch), epochs=3),
    )
    run(whole)
    run(parts)
    assert parts.log[-1]["loss"] == pytest.approx(whole.log[-1]["loss"], abs=1e-5)
    for name, tensor in whole.objective.model.state_dict().items():
        torch.testing.assert_close(
            parts.objective.model.state_dict()[name], tensor, atol=1e-4, rtol=1e-3
        )


def test_an_error_while_a_batch_is_made_ahead_reaches_the_user(tokens, tmp_path, monkeypatch):
    training = trainer(tokens, tmp_path / "run")
    codes = training.objective.batches.cache.codes

    def codes_or_error(images, crops):
        if training.iteration:
            raise UserError("tokens/s004/00001.npy: damaged")
        return codes(images, crops)

    monkeypatch.setattr(training.objective.batches.cache, "codes", codes_or_error)
    with pytest.raises(UserError, match=r"^tokens/s004/00001\.npy: damaged$"):
        run(training)


def test_a_long_run_keeps_a_log_of_bounded_length(tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(transformer, "LOG_ROWS", 5)
    long = trainer(tokens, tmp_path / "run", epochs=60)
    run(long)
    assert long.objective.iterations == 120
    assert [row["iteration"] for row in long.log] == [24, 48, 72, 96, 120]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_close_to_float32(tokens, tmp_path, precision):
    exact, rounded = (
        trainer(tokens, tmp_path / "a"),
        trainer(tokens, tmp_path / "b", precision=precision),
    )
    run(exact)
    run(rounded)
    assert rounded.log[-1]["loss"] == pytest.approx(exact.log[-1]["loss"], rel=0.02)


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o770, 0o660), (0o700, 0o600)])
def test_who_may_read_a_folder_may_read_the_weights_in_it(tmp_path, folder, file):
    tmp_path.chmod(folder)
    save_weights(tmp_path / "model.safetensors", tiny_model().state_dict())
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == file


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


def diverged(trainer) -> str:
    with pytest.raises(UserError) as caught:
        run(trainer)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_first_loss_that_is_not_finite_ends_the_training(tokens, tmp_path):
    run_to = trainer(tokens, tmp_path, Compute(checkpoint_seconds=1e-9), learning_rate=1e12)
    line = diverged(run_to)
    pattern = r"at iteration (\d+) \(learning rate (\S+)\).*checkpoint: of iteration (\d+);"
    found = re.search(pattern, line)
    assert found is not None, line
    assert int(found[1]) - 1 == int(found[3]) == run_to.iteration - 1
    assert float(found[2]) > 1e9
    # Whoever resumes begins where all was well, and ends as before.
    again = trainer(tokens, tmp_path, learning_rate=1e12)
    assert again.iteration == int(found[3])
    assert diverged(again) == line


@pytest.mark.parametrize("spoil", ["loss", "weights"])
def test_what_is_not_finite_never_replaces_a_checkpoint(tokens, tmp_path, spoil):
    good = trainer(tokens, tmp_path)
    good.save()
    before = (tmp_path / CHECKPOINT).read_bytes()
    good.step(good.objective.batch(0))
    if spoil == "loss":
        good._total_F = good._total_F * float("nan")
    else:
        good.objective.model.head.bias.data[3] = float("inf")
    said = r"no longer finite at iter|diverged.* in objective\.model\.head\.bias"
    with pytest.raises(UserError, match=said):
        good.save()
    assert (tmp_path / CHECKPOINT).read_bytes() == before


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "flipped": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "noise": lambda data: bytes(range(256)) * 100,
    "web page": lambda data: b"<!doctype html>",
}


@pytest.mark.parametrize("damage", [*DAMAGE, "other", "no dict"])
def test_a_damaged_checkpoint_is_set_aside_and_training_begins_anew(
    tokens, tmp_path, capsys, damage
):
    path = tmp_path / CHECKPOINT
    whole = trainer(tokens, tmp_path)
    whole.step(whole.objective.batch(0))
    whole.save()
    if damage in DAMAGE:
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    else:
        torch.save({"model": {}} if damage == "other" else [1], path)
    capsys.readouterr()
    again = trainer(tokens, tmp_path)
    assert again.iteration == 0
    assert re.fullmatch(
        rf"{path}: .*; set aside as {DAMAGED}, and training begins anew\n", capsys.readouterr().out
    )
    assert not path.exists() and (tmp_path / DAMAGED).exists()
    again.save()
    assert path.exists()
