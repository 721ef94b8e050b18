"""The stage `metrics`: which images it scores, and that only they decide the numbers."""

import json
from functools import partial

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pcb.errors import UserError
from pcb.metrics.classifier import WEIGHTS, Classifier, classify
from pcb.metrics.classifier_build import REFERENCE_FEATURES
from pcb.metrics.run import SCORES, agreement, run
from pcb.params import load_preset
from pcb.pipeline import Pipeline
from pcb.progress import Progress
from pcb.settings import Metrics
from pcb.stage import Job
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer

IMAGES = 48
TOKENS = 85
METRICS = Metrics(splits=4, kid_subsets=2, kid_subset_size=30, bootstrap=2)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Random codes, tokenizer and classifier, as their stages would leave them."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("tokenizer", "reference")}
    torch.manual_seed(0)
    tokenizer = Tokenizer(load_preset("smoke").tokenizer.autoencoder)
    save_file(tokenizer.state_dict(), folders["tokenizer"] / TOKENIZER_FILE)
    classifier = Classifier(10, 8).eval()
    torch.nn.init.constant_(classifier.body[-1][1].weight, 20)
    save_file(classifier.state_dict(), folders["reference"] / WEIGHTS)
    reference = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    features, _ = classify(classifier, reference, 40)
    np.save(folders["reference"] / REFERENCE_FEATURES, features.numpy())
    return folders


@pytest.fixture
def codes():
    size = load_preset("smoke").tokenizer.autoencoder.codebook_size
    return np.random.default_rng(0).integers(0, size, (IMAGES, TOKENS)).astype(np.uint16)


def measure(inputs, codes, tmp_path, *, shard_images=20, feature_batch=20):
    """Score these codes, put into shards, and return what the stage says and wrote."""
    samples, folder = tmp_path / "sample", tmp_path / "metrics"
    samples.mkdir()
    folder.mkdir()
    for shard, start in enumerate(range(0, len(codes), shard_images)):
        np.save(samples / f"codes-{shard:05d}.npy", codes[start : start + shard_images])
    preset, replace = load_preset("smoke"), msgspec.structs.replace
    preset = replace(
        preset,
        sampling=replace(preset.sampling, images=IMAGES),
        metrics=METRICS,
        compute=replace(preset.compute, feature_batch=feature_batch, device="cpu"),
    )
    job = Job(
        unit=Pipeline("smoke", preset).unit("metrics", "ratio2/t17"),
        preset=preset,
        folder=folder,
        inputs={**inputs, "sample": samples},
        facts={},
        progress=partial(Progress, "metrics/test"),
    )
    return run(job), (folder / SCORES).read_bytes()


def test_facts_and_file_say_the_same(inputs, codes, tmp_path):
    facts, written = measure(inputs, codes, tmp_path)
    assert json.loads(written) == facts
    assert facts["images"] == IMAGES
    assert facts["fid"] > 0
    assert facts["fid_std"] > 0
    assert 1 <= facts["is"] <= 10
    for share in ("precision", "recall", "agreement"):
        assert 0 <= facts[share] <= 1
    assert {"is_std", "kid", "kid_std"} < set(facts)


def test_two_runs_write_the_same_bytes(inputs, codes, tmp_path_factory):
    one, other = (measure(inputs, codes, tmp_path_factory.mktemp("run")) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(("shard_images", "feature_batch"), [(48, 20), (7, 20), (20, 1), (20, 48)])
def test_shards_and_batches_leave_no_trace(
    inputs, codes, tmp_path_factory, shard_images, feature_batch
):
    whole, _ = measure(inputs, codes, tmp_path_factory.mktemp("whole"))
    other, _ = measure(
        inputs,
        codes,
        tmp_path_factory.mktemp("other"),
        shard_images=shard_images,
        feature_batch=feature_batch,
    )
    assert other == pytest.approx(whole, rel=1e-4)


def test_only_the_finest_scale_is_decoded(inputs, codes, tmp_path_factory):
    _, before = measure(inputs, codes, tmp_path_factory.mktemp("before"))
    codes[:, :-64] = 0
    _, coarse = measure(inputs, codes, tmp_path_factory.mktemp("coarse"))
    codes[:, -1] = 0
    _, fine = measure(inputs, codes, tmp_path_factory.mktemp("fine"))
    assert before == coarse != fine


@pytest.mark.parametrize("count", [0, IMAGES - 1, IMAGES + 1])
def test_another_number_of_images_is_refused(inputs, codes, tmp_path, count):
    with pytest.raises(UserError, match=rf"holds {count} images where sampling\.images = 48"):
        measure(inputs, np.resize(codes, (count, TOKENS)), tmp_path)
    assert not (tmp_path / "metrics" / SCORES).exists()


def test_agreement_is_with_the_class_that_was_asked_for():
    asked = torch.eye(10)[torch.arange(20) % 10]
    assert agreement(asked, 10) == 1
    assert agreement(asked.roll(1, 0), 10) == 0
    assert agreement(torch.cat([asked[:10], asked[:10].roll(1, 0)]), 10) == 0.5
