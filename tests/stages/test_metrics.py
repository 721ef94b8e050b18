"""The stage `metrics`: which images it scores, and that only they decide the numbers."""

import json
from functools import partial

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import pcb.metrics.parts as parts
from pcb.config import Metrics
from pcb.config.loader import load_preset
from pcb.errors import UserError
from pcb.metrics.classifier import WEIGHTS, Classifier, classify
from pcb.metrics.statistics import statistics_of
from pcb.metrics.target import Target, save_target
from pcb.pipeline.job import ALL_SHARDS, Job, ShardGroup
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.progress import Progress
from pcb.sample.uniforms import labels
from pcb.stages.metrics import SCORES, agreement, run
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
    save_target(folders["reference"], Target(features, statistics_of(features)))
    return folders


@pytest.fixture
def codes():
    size = load_preset("smoke").tokenizer.autoencoder.codebook_size
    return np.random.default_rng(0).integers(0, size, (IMAGES, TOKENS)).astype(np.uint16)


def make_job(
    inputs,
    codes,
    tmp_path,
    *,
    shard_images=20,
    shards=ALL_SHARDS,
    metrics=METRICS,
    **compute,
):
    """Put these codes into shards, and return the job that scores them."""
    samples, folder = tmp_path / "sample", tmp_path / "metrics"
    samples.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    for shard, start in enumerate(range(0, len(codes), shard_images)):
        np.save(samples / f"codes-{shard:05d}.npy", codes[start : start + shard_images])
    preset, replace = load_preset("smoke"), msgspec.structs.replace
    preset = replace(
        preset,
        sampling=replace(preset.sampling, images=IMAGES),
        metrics=metrics,
        compute=replace(preset.compute, **{"feature_batch": 20, "device": "cpu", **compute}),
    )
    return Job(
        task=Pipeline("smoke", preset).task("metrics", "ratio2/t17"),
        preset=preset,
        folder=folder,
        inputs={**inputs, "sample": samples},
        progress=partial(Progress, "metrics/test"),
        shards=shards,
    )


def measure(inputs, codes, tmp_path, **changes):
    """Score these codes, and return what the stage says and wrote."""
    job = make_job(inputs, codes, tmp_path, **changes)
    return run(job), (job.folder / SCORES).read_bytes()


def test_decoding_in_16_bits_has_a_key_of_its_own_and_moves_scores_a_little(
    inputs, codes, tmp_path
):
    metrics = msgspec.structs.replace(METRICS, decode_precision="bfloat16")
    exact, rounded = (
        make_job(inputs, codes, tmp_path / name, metrics=settings)
        for name, settings in (("exact", METRICS), ("rounded", metrics))
    )
    assert exact.task.key != rounded.task.key
    fid, other = run(exact)["fid"], run(rounded)["fid"]
    assert 0 < abs(fid - other) < 0.05 * fid


def test_facts_and_file_say_the_same(inputs, codes, tmp_path):
    facts, written = measure(inputs, codes, tmp_path)
    assert json.loads(written) == facts
    assert facts["images"] == IMAGES
    assert facts["fid"] > 0
    assert facts["fid_std"] > 0
    assert 1 <= facts["is"] <= 10
    for fraction in ("precision", "recall", "agreement"):
        assert 0 <= facts[fraction] <= 1
    assert {"is_std", "kid", "kid_std"} < set(facts)


def test_what_is_decoded_ahead_is_the_same(inputs, codes, tmp_path_factory):
    """In a thread of its own or in turn: to the bit."""
    one, other = (
        measure(inputs, codes, tmp_path_factory.mktemp("run"), prefetch=depth) for depth in (0, 3)
    )
    assert one == other


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_what_is_decoded_ahead_on_a_gpu_is_what_a_cpu_decodes(inputs, codes, tmp_path_factory):
    """A batch that was overwritten or read too early would be another image altogether."""
    exact, _ = measure(inputs, codes, tmp_path_factory.mktemp("cpu"))
    found, _ = measure(inputs, codes, tmp_path_factory.mktemp("gpu"), device="cuda", prefetch=3)
    assert found["fid"] == pytest.approx(exact["fid"], rel=1e-2)


def test_two_runs_write_the_same_bytes(inputs, codes, tmp_path_factory):
    one, other = (measure(inputs, codes, tmp_path_factory.mktemp("run")) for _ in range(2))
    assert one == other


def test_groups_of_shards_merge_to_the_same_bytes(inputs, codes, tmp_path_factory, monkeypatch):
    whole = measure(inputs, codes, tmp_path_factory.mktemp("whole"))
    shared, extracted = tmp_path_factory.mktemp("shared"), []
    for k in (1, 0):
        job = make_job(inputs, codes, shared, shards=ShardGroup(k, 2))
        assert run(job) == {}
        assert not (job.folder / SCORES).exists()
    monkeypatch.setattr(parts, "extract", lambda *arguments: extracted.append(arguments))
    assert measure(inputs, codes, shared) == whole
    assert not extracted, "what the groups left is not extracted again"


def test_an_interrupted_run_goes_on_to_the_same_bytes(inputs, codes, tmp_path_factory, monkeypatch):
    whole = measure(inputs, codes, tmp_path_factory.mktemp("whole"))
    folder, extract, extracted = tmp_path_factory.mktemp("interrupted"), parts.extract, []

    def extract_or_die(*arguments):
        if len(extracted) == 2:
            raise KeyboardInterrupt
        extracted.append(arguments)
        return extract(*arguments)

    monkeypatch.setattr(parts, "extract", extract_or_die)
    with pytest.raises(KeyboardInterrupt):
        measure(inputs, codes, folder)
    extracted.clear()
    assert measure(inputs, codes, folder) == whole
    assert len(extracted) == 1, "only what was missing is extracted"


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
    assert other == pytest.approx(whole, rel=1e-3)


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
    ten = partial(labels, 10)
    assert agreement(asked, ten) == 1
    assert agreement(asked.roll(1, 0), ten) == 0
    assert agreement(torch.cat([asked[:10], asked[:10].roll(1, 0)]), ten) == 0.5
