"""The feature extractor: what it returns, how it is trained and refused, how it is read."""

from functools import partial

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from pcb.config import Classifier as ClassifierSettings
from pcb.config.loader import load_preset
from pcb.errors import UserError
from pcb.metrics.classifier import WEIGHTS, Classifier, classify, load_classifier
from pcb.metrics.target import FEATURES, STATISTICS, load_target
from pcb.pipeline.job import Job
from pcb.pipeline.manifest import result_files
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.progress import Progress
from pcb.stages.reference import run as build

CLASSES = 10


def striped(count, seed):
    """Noisy images (count, 3, 32, 32) with a bright stripe at a height that tells the class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = random.integers(0, 120, (count, 3, 32, 32), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[:, 3 * label : 3 * label + 3] += 100
    return pixels, labels.astype(np.int64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images in the format of the stage `data`."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 200), ("reference", 60)):
        pixels, labels = striped(count, seed=count)
        images = np.stack([pixels, pixels], axis=1) if split == "train" else pixels
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)
    return folder


def make_job(data, folder, **changes):
    preset = load_preset("smoke")
    settings = ClassifierSettings(
        **{"iterations": 40, "features": 16, "min_accuracy": 0, **changes}
    )
    compute = msgspec.structs.replace(preset.compute, device="cpu", feature_batch=32)
    preset = msgspec.structs.replace(preset, classifier=settings, compute=compute)
    folder.mkdir(exist_ok=True)
    return Job(
        task=Pipeline("smoke", preset).task("reference"),
        preset=preset,
        folder=folder,
        inputs={"data": data},
        progress=partial(Progress, "reference"),
    )


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return folder, build(make_job(data, folder))


def test_it_learns_and_measures_itself_on_the_reference(built, data):
    folder, facts = built
    assert facts == {"accuracy": facts["accuracy"], "reference_images": 60}
    assert facts["accuracy"] > 0.9
    pixels = torch.from_numpy(np.load(data / "reference_images.npy"))
    features, logits = classify(load_classifier(folder), pixels, 60)
    right = logits.argmax(1).numpy() == np.load(data / "reference_labels.npy")
    assert facts["accuracy"] == pytest.approx(right.mean())
    target = load_target(folder)
    assert target.features.dtype == torch.float32
    torch.testing.assert_close(target.features, features, rtol=1e-4, atol=1e-5)
    expected = np.cov(features.double().numpy(), rowvar=False)
    np.testing.assert_allclose(target.pool.covariance, expected, rtol=1e-3, atol=1e-5)
    assert target.spatial is None


def test_the_same_settings_give_the_same_bytes(built, data, tmp_path):
    build(make_job(data, tmp_path))
    for name in (WEIGHTS, FEATURES, STATISTICS):
        assert (tmp_path / name).read_bytes() == (built[0] / name).read_bytes()


def test_one_that_is_not_good_enough_is_refused_and_leaves_no_result(data, tmp_path):
    with pytest.raises(UserError, match=r"accuracy 0\.\d+ is below classifier\.min_accuracy = 1"):
        build(make_job(data, tmp_path, iterations=2, min_accuracy=1.0))
    assert not result_files(tmp_path)


def test_features_are_not_negative_and_logits_follow_from_them():
    classifier = Classifier(10, 16).eval().requires_grad_(False)
    pixels = torch.from_numpy(striped(6, seed=0)[0])
    features, logits = classify(classifier, pixels, 4)
    assert features.shape == (6, 16)
    assert features.min() >= 0
    torch.testing.assert_close(
        logits, F.linear(features, classifier.head.weight, classifier.head.bias)
    )


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_batches_leave_no_trace(batch):
    torch.manual_seed(0)
    classifier = Classifier(10, 16).eval()
    pixels = torch.from_numpy(striped(10, seed=0)[0])
    whole, parts = classify(classifier, pixels, 10), classify(classifier, pixels, batch)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_miniatures_is_small():
    count = sum(x.numel() for x in Classifier(10, ClassifierSettings().features).parameters())
    assert 100_000 < count < 300_000


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"classifier\.safetensors: no such file; make the stage"):
        load_classifier(tmp_path)
    save_file(Classifier(10, 16).state_dict(), tmp_path / WEIGHTS)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"classifier\.safetensors: not readable weights"):
        load_classifier(tmp_path)
    save_file({"weight": torch.zeros(2)}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="is it a classifier"):
        load_classifier(tmp_path)
    save_file({"head.weight": torch.zeros(10, 16)}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="tensors do not fit"):
        load_classifier(tmp_path)
