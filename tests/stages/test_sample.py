"""The stage `sample`: shards, interruptions and batches leave no trace in the codes."""

import csv
from functools import partial

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import pcb.stages.sample as stage
from pcb.config.loader import load_preset
from pcb.model.weights import build_model
from pcb.pipeline.job import Job
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.progress import Progress
from pcb.runtime.weights import save_weights
from pcb.sample.decoder import Block
from pcb.sample.filter import Filter, sample_codes
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer

IMAGES = 40
SETTING = "ratio2/t17-cfg1.5-start5"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tokenizer and a model with random weights, as their stages would leave them."""
    preset = load_preset("smoke")
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    train = tmp_path_factory.mktemp("train")
    torch.manual_seed(0)
    save_file(Tokenizer(preset.tokenizer.autoencoder).state_dict(), tokenizer / TOKENIZER_FILE)
    model = build_model(preset, "ratio2", tokenizer)
    torch.nn.init.normal_(model.head.weight, std=0.3)
    save_weights(train / "model.safetensors", model.state_dict())
    return {"tokenizer": tokenizer, "train": train}


def make_job(inputs, folder, *, shard_images=16, batch=64, variant=SETTING):
    preset = load_preset("smoke")
    replace = msgspec.structs.replace
    preset = replace(
        preset,
        sampling=replace(preset.sampling, images=IMAGES, shard_images=shard_images),
        compute=replace(preset.compute, sampling_batch=batch, device="cpu"),
    )
    folder.mkdir(exist_ok=True)
    return Job(
        task=Pipeline("smoke", preset).task("sample", variant),
        preset=preset,
        folder=folder,
        inputs=inputs,
        progress=partial(Progress, "sample/test"),
    )


def codes(folder):
    return np.concatenate([np.load(path) for path in sorted(folder.glob("codes-*.npy"))])


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, stage.run(make_job(inputs, folder))


def test_codes_and_facts(whole):
    folder, facts = whole
    sampled = codes(folder)
    assert sampled.dtype == np.uint16
    assert sampled.shape == (IMAGES, 85)
    assert len(np.unique(sampled)) > 10
    assert facts["steps"] == 17
    assert sum(facts["blocks_per_scale"]) == 17
    assert facts["seconds_per_image"] > 0


@pytest.mark.parametrize(("shard_images", "batch"), [(16, 1), (7, 3), (40, 16), (1, 64)])
def test_shards_and_batches_leave_no_trace(inputs, whole, tmp_path, shard_images, batch):
    stage.run(make_job(inputs, tmp_path, shard_images=shard_images, batch=batch))
    np.testing.assert_array_equal(codes(tmp_path), codes(whole[0]))


def test_an_interrupted_run_continues_to_the_same_bytes(inputs, whole, tmp_path, monkeypatch):
    sample, sampled = stage.sample_shard, []

    def sample_or_die(*call):
        if len(sampled) == 2:
            raise KeyboardInterrupt
        sampled.append(call)
        sample(*call)

    monkeypatch.setattr(stage, "sample_shard", sample_or_die)
    with pytest.raises(KeyboardInterrupt):
        stage.run(make_job(inputs, tmp_path))
    assert len(list(tmp_path.glob("codes-*.npy"))) == 2
    sampled.clear()
    stage.run(make_job(inputs, tmp_path))
    assert len(sampled) == 1, "only what was missing is sampled"
    # How long a shard took is no part of the result, and goes with the other temporaries.
    for path in set(whole[0].glob("*.*")) - set(whole[0].glob(".seconds-*")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_shard_lost_after_completion_is_sampled_again(inputs, whole, tmp_path):
    stage.run(make_job(inputs, tmp_path))
    for path in tmp_path.glob(".stats-*.npy"):
        path.unlink()  # as the stage's completion does
    (tmp_path / "codes-00001.npy").unlink()
    stage.run(make_job(inputs, tmp_path))
    np.testing.assert_array_equal(codes(tmp_path), codes(whole[0]))


def test_statistics_cover_every_step_and_token(whole):
    with (whole[0] / "stats.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(17))
    assert sum(int(row["tokens"]) for row in rows) == 85
    for row in rows:
        assert 0 < float(row["entropy"]) < np.log(256)
        assert 0 < float(row["probability"]) <= 1


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_statistics_are_those_of_the_logits(temperature):
    """Sums over two batches, against the logarithms of softmax; greedy codes at temperature 1."""
    torch.manual_seed(0)
    sums, parts = stage.StepSums(), []
    for images in (5, 2):
        logits = 4 * torch.randn(images, 3, 64)
        filter = Filter(temperature=temperature)
        codes, probabilities = sample_codes(logits, torch.rand(images, 3), filter)
        block = Block(logits_BnV=logits, probabilities_BnV=probabilities, codes_Bn=codes)
        sums.add(0, stage.entropy_and_probability(block))
        logs = torch.log_softmax(logits.double() / (temperature or 1), dim=-1)
        entropy = -(logs.exp() * logs).sum()
        parts.append([3 * images, entropy, logs.gather(-1, codes[..., None]).exp().sum()])
    np.testing.assert_allclose(sums.array(), np.array(parts).sum(0, keepdims=True), rtol=1e-6)


def test_the_same_image_shares_its_numbers_across_step_counts(inputs, whole, tmp_path):
    """The first code has no earlier step to differ by: it is the same at every step count."""
    stage.run(make_job(inputs, tmp_path, variant="ratio2/k1"))
    np.testing.assert_array_equal(codes(tmp_path)[:, 0], codes(whole[0])[:, 0])
