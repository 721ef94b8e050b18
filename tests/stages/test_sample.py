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
    drawn = codes(folder)
    assert drawn.dtype == np.uint16
    assert drawn.shape == (IMAGES, 85)
    assert len(np.unique(drawn)) > 10
    assert facts["steps"] == 17
    assert sum(facts["blocks_per_scale"]) == 17
    assert facts["seconds_per_image"] > 0


@pytest.mark.parametrize(("shard_images", "batch"), [(16, 1), (7, 3), (40, 16), (1, 64)])
def test_shards_and_batches_leave_no_trace(inputs, whole, tmp_path, shard_images, batch):
    stage.run(make_job(inputs, tmp_path, shard_images=shard_images, batch=batch))
    np.testing.assert_array_equal(codes(tmp_path), codes(whole[0]))


def test_an_interrupted_run_continues_to_the_same_bytes(inputs, whole, tmp_path, monkeypatch):
    draw, drawn = stage.draw_shard, []

    def draw_or_die(sampler, sampling, indices, folder, batch):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(indices)
        draw(sampler, sampling, indices, folder, batch)

    monkeypatch.setattr(stage, "draw_shard", draw_or_die)
    with pytest.raises(KeyboardInterrupt):
        stage.run(make_job(inputs, tmp_path))
    assert len(list(tmp_path.glob("codes-*.npy"))) == 2
    drawn.clear()
    stage.run(make_job(inputs, tmp_path))
    assert len(drawn) == 1, "only what was missing is drawn"
    # How long a shard took is no part of the result, and goes with the other temporaries.
    for path in set(whole[0].glob("*.*")) - set(whole[0].glob(".seconds-*")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_shard_lost_after_completion_is_drawn_again(inputs, whole, tmp_path):
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


def test_the_same_image_shares_its_numbers_across_step_counts(inputs, whole, tmp_path):
    """The first code has no earlier step to differ by: it is the same at every step count."""
    stage.run(make_job(inputs, tmp_path, variant="ratio2/k1"))
    np.testing.assert_array_equal(codes(tmp_path)[:, 0], codes(whole[0])[:, 0])
