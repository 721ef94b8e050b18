"""The numbers of the metrics, against slow second implementations and by their conventions."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
import torch
import torch_fidelity
from numpy.linalg import norm
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch.utils.data import Dataset
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from pcb.config import Metrics
from pcb.metrics import precision_recall, statistics
from pcb.metrics.classifier import WEIGHTS, Classifier, classify, load_classifier
from pcb.metrics.features import Features
from pcb.metrics.fidelity import scores
from pcb.metrics.statistics import statistics_of, sums_of
from pcb.metrics.target import Target

CPU = torch.device("cpu")
SETTINGS = Metrics(splits=4, nearest=3, kid_subsets=2, kid_subset_size=60, bootstrap=2)


@dataclass
class Sets:
    """Two sets of features that overlap, and logits of the first."""

    generated: torch.Tensor
    reference: torch.Tensor
    logits: torch.Tensor

    def scores(self, **changes):
        settings = msgspec.structs.replace(SETTINGS, **changes)
        spatial = self.generated[:, :5]
        features = Features(self.generated, self.logits, sums_of(spatial))
        target = statistics_of(self.reference), statistics_of(self.reference[:, :5])
        return scores(features, Target(self.reference, *target), settings, CPU)


def slow_frechet(one, other):
    """The distance with a true matrix root."""
    x, y = one.double().numpy(), other.double().numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(0) - y.mean(0)
    return shift @ shift + np.trace(a + b - 2 * sqrtm(a @ b).real)


@pytest.fixture
def sets(exact):
    random = np.random.default_rng(0)

    def normal(*shape):
        return torch.from_numpy(random.normal(size=shape).astype(np.float32))

    skew = torch.eye(8) + 0.3 * normal(8, 8)
    return Sets(normal(80, 8) @ skew + 0.4, normal(90, 8), 3 * normal(80, 5))


def test_fid_is_the_distance_with_a_true_matrix_root(sets):
    expected = slow_frechet(sets.generated, sets.reference)
    assert sets.scores()["fid"] == pytest.approx(expected, rel=1e-9)


def test_sfid_is_the_same_of_spatial_features(sets):
    expected = slow_frechet(sets.generated[:, :5], sets.reference[:, :5])
    assert sets.scores()["sfid"] == pytest.approx(expected, rel=1e-9)


def test_fid_compares_with_the_targets_statistics_not_with_its_images(sets):
    """ADM's statistics are those of all training images, its images a tenth of them."""
    others = sets.reference * 2 + 1
    features = Features(sets.generated, sets.logits, None)
    found = scores(features, Target(sets.reference, statistics_of(others)), SETTINGS, CPU)
    assert found["fid"] == pytest.approx(slow_frechet(sets.generated, others), rel=1e-9)
    assert found["precision"] == sets.scores()["precision"]
    assert "sfid" not in found


def test_inception_score_is_over_consecutive_splits(sets):
    found = []
    for part in sets.logits.double().numpy().reshape(4, 20, 5):
        p = np.exp(part) / np.exp(part).sum(1, keepdims=True)
        marginal = p.mean(0)
        divergences = [sum(row * np.log(row / marginal)) for row in p]
        found.append(np.exp(np.mean(divergences)))
    result = sets.scores()
    assert result["is"] == pytest.approx(np.mean(found), rel=1e-9)
    assert result["is_std"] == pytest.approx(np.std(found), rel=1e-9)


def inside(points, manifold, nearest):
    """Fraction of points within the k-th neighbor's distance of a point of the manifold."""
    radii = [sorted(norm(manifold - x, axis=1))[nearest] for x in manifold]
    return np.mean([any(norm(manifold - x, axis=1) <= radii) for x in points])


def test_precision_and_recall_count_points_inside_the_other_manifold(sets):
    x, y = sets.generated.double().numpy(), sets.reference.double().numpy()
    result = sets.scores()
    assert result["precision"] == pytest.approx(inside(x, y, 3), abs=1e-6)
    assert result["recall"] == pytest.approx(inside(y, x, 3), abs=1e-6)
    assert 0 < result["precision"] < 1
    assert 0 < result["recall"] < 1


def test_kid_is_the_unbiased_discrepancy_of_a_cubic_kernel(sets):
    sets.reference = sets.reference[:80]
    x, y = sets.generated.double().tolist(), sets.reference.double().tolist()

    def kernel(u, v):
        return (sum(a * b for a, b in zip(u, v, strict=True)) / 8 + 1) ** 3

    n = len(x)
    within = [
        sum(kernel(s[i], s[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        for s in (x, y)
    ]
    across = sum(kernel(u, v) for u in x for v in y) / n**2
    # Subsets of the whole size are the set itself, in another order.
    result = sets.scores(kid_subset_size=80)
    assert result["kid"] == pytest.approx(sum(within) - 2 * across, rel=1e-9)
    assert result["kid_std"] == pytest.approx(0, abs=1e-9)


def test_a_set_is_at_no_distance_from_itself(sets):
    sets.reference = sets.generated.clone()
    result = sets.scores(kid_subset_size=80)
    assert result["fid"] == pytest.approx(0, abs=1e-6)
    assert result["precision"] == result["recall"] == 1


def test_a_collapsed_generator_has_precision_and_no_recall(sets):
    sets.generated = 0.05 * sets.generated
    result = sets.scores()
    assert result["precision"] > 0.9
    assert result["recall"] < 0.1


def test_inception_score_spans_one_to_the_number_of_classes(sets):
    sets.logits = torch.zeros(80, 5)
    assert sets.scores()["is"] == pytest.approx(1)
    sets.logits = 50 * torch.eye(5).repeat(16, 1)
    assert sets.scores()["is"] == pytest.approx(5)
    # Sorted by class, each split of the file sees fewer classes: nothing is shuffled.
    sets.logits = 50 * torch.eye(5).repeat_interleave(16, 0)
    assert sets.scores()["is"] < 2.1


def test_distances_are_never_whole_in_memory(sets, monkeypatch):
    cdist, rows = torch.cdist, []

    def watched(part, points):
        rows.append(len(part))
        return cdist(part, points)

    monkeypatch.setattr(torch, "cdist", watched)
    monkeypatch.setattr(precision_recall, "ROWS", 20)
    sets.scores()
    assert max(rows) == 20
    # Radii of both sets, and each set against the other: 80 generated points, 90 of the reference.
    assert sum(rows) == 2 * (80 + 90)


def test_chunks_leave_no_trace(sets, monkeypatch):
    whole = sets.scores()
    monkeypatch.setattr(precision_recall, "ROWS", 7)
    assert sets.scores() == whole
    monkeypatch.setattr(statistics, "ROWS", 11)
    assert sets.scores() == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kid_subset_size": 81}, "80 images are too few for kid_subset_size 81"),
        ({"nearest": 80}, "80 images are too few .* nearest 80: expected at least 81"),
        ({"splits": 3}, "80 images cannot be cut into 3 equal splits"),
    ],
)
def test_a_metric_that_is_not_defined_is_refused(sets, changes, message):
    with pytest.raises(ValueError, match=message):
        sets.scores(**changes)


def test_too_small_a_reference_is_refused(sets):
    sets.reference = sets.reference[:59]
    with pytest.raises(ValueError, match="59 reference images are too few"):
        sets.scores()


# ---- torch-fidelity -----------------------------------------------------------------------------


EXTRACTOR = "pcb-classifier"


class ClassifierFeatures(FeatureExtractorBase):
    """The classifier as `calculate_metrics` wants an extractor."""

    LAYERS: ClassVar = {"isc": "logits", "fid": "features", "kid": "features", "prc": "features"}

    def __init__(self, name, features_list, **settings):
        super().__init__(name, features_list)
        self.classifier = load_classifier(Path(settings["feature_extractor_weights_path"]))

    @staticmethod
    def get_provided_features_list():
        return ("features", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return ClassifierFeatures.LAYERS[metric]

    @staticmethod
    def can_be_compiled():
        return False

    @staticmethod
    def get_dummy_input_for_compile():
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    def forward(self, pixels):
        layers = dict(zip(("features", "logits"), self.classifier(pixels), strict=True))
        return tuple(layers[name] for name in self.features_list)


@pytest.fixture
def registered():
    """The classifier as an extractor of torch-fidelity's, for one test."""
    register_feature_extractor(EXTRACTOR, ClassifierFeatures)
    yield
    del FEATURE_EXTRACTORS_REGISTRY[EXTRACTOR]


class Images(Dataset):
    """Random uint8 images as torch-fidelity wants them."""

    def __init__(self, count, seed, low=0):
        random = torch.Generator().manual_seed(seed)
        shape = (count, 3, 32, 32)
        self.pixels = torch.randint(low, 256, shape, generator=random, dtype=torch.uint8)

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.pixels[index]


@pytest.fixture
def weights(tmp_path):
    """A folder with a random classifier, as the stage `classifier` would leave it."""
    torch.manual_seed(0)
    classifier = Classifier(5, 8)
    # Features of about 1, as training leaves them: KID of smaller ones is lost in rounding.
    torch.nn.init.constant_(classifier.body[-1][1].weight, 20)
    save_file(classifier.state_dict(), tmp_path / WEIGHTS)
    return tmp_path


@pytest.mark.usefixtures("registered")
def test_calculate_metrics_with_the_same_extractor_gives_the_same(weights):
    generated, reference = Images(80, seed=0, low=60), Images(90, seed=1)
    theirs = torch_fidelity.calculate_metrics(
        input1=generated,
        input2=reference,
        feature_extractor=EXTRACTOR,
        feature_extractor_weights_path=str(weights),
        **dict.fromkeys(("isc", "fid", "kid", "prc"), True),
        isc_splits=4,
        samples_shuffle=False,
        kid_subsets=2,
        kid_subset_size=60,
        **dict.fromkeys(("cuda", "cache", "verbose"), False),
        save_cpu_ram=True,
    )
    classifier = load_classifier(weights)
    features, logits = classify(classifier, generated.pixels, 64)
    against, _ = classify(classifier, reference.pixels, 64)
    target = Target(against, statistics_of(against))
    ours = scores(Features(features, logits, None), target, SETTINGS, CPU)
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=0.03)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=0.03)


@pytest.mark.usefixtures("registered")
def test_torch_fidelitys_own_figures_are_those_of_calculate_metrics(weights):
    generated, reference = Images(80, seed=0, low=60), Images(80, seed=1)
    theirs = torch_fidelity.calculate_metrics(
        input1=generated,
        input2=reference,
        feature_extractor=EXTRACTOR,
        feature_extractor_weights_path=str(weights),
        **dict.fromkeys(("isc", "fid", "kid", "prc"), True),
        kid_subset_size=60,
        **dict.fromkeys(("cuda", "cache", "verbose"), False),
        save_cpu_ram=True,
    )
    classifier = load_classifier(weights)
    features, logits = classify(classifier, generated.pixels, 64)
    against, _ = classify(classifier, reference.pixels, 64)
    settings = msgspec.structs.replace(SETTINGS, torch_fidelity=True)
    target = Target(against, statistics_of(against))
    found = scores(Features(features, logits, None), target, settings, CPU)
    for ours, name in (
        ("fid", "frechet_inception_distance"),
        ("is", "inception_score_mean"),
        ("is_std", "inception_score_std"),
        ("kid", "kernel_inception_distance_mean"),
        ("kid_std", "kernel_inception_distance_std"),
        ("precision", "precision"),
        ("recall", "recall"),
    ):
        assert found[f"torch_fidelity_{ours}"] == pytest.approx(theirs[name], rel=1e-3), ours
    assert found["torch_fidelity_is"] != found["is"], "it shuffles, in ten splits"
