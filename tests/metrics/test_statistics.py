"""Sums of features: merged over shards, weighted, and what a resampled FID spreads."""

import numpy as np
import pytest
import torch
import torch_fidelity.metric_fid as theirs
from torch_fidelity.metric_kid import kernel_mmd

from pcb.metrics.frechet import frechet_distance, overlap_on, resampled_deviation
from pcb.metrics.kid import discrepancy, kernel_distance
from pcb.metrics.statistics import Statistics, statistics_of, sums_of


def normal(*shape, seed=0, shift=0.0):
    random = np.random.default_rng(seed)
    return torch.from_numpy((random.normal(size=shape) + shift).astype(np.float32))


def assert_same(one, other, rtol=1e-12):
    np.testing.assert_allclose(one.mean, other.mean, rtol=rtol)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=rtol, atol=1e-12)


def test_statistics_are_mean_and_unbiased_covariance():
    features = normal(200, 6, shift=3)
    exact = features.double().numpy()
    expected = Statistics(exact.mean(0), np.cov(exact, rowvar=False))
    assert_same(statistics_of(features), expected)


@pytest.mark.parametrize("cuts", [[100, 100], [1, 199], [40, 60, 30, 70]])
def test_sums_of_shards_merge_to_those_of_the_whole(cuts):
    features = normal(200, 6, shift=3)
    first, *others = (sums_of(part) for part in features.split(cuts))
    for other in others:
        first = first + other
    assert first.count == 200
    assert_same(first.statistics(), statistics_of(features))


def test_weights_count_images_as_often():
    features = normal(50, 4)
    chosen = np.random.default_rng(1).integers(50, size=70)
    weights = torch.from_numpy(np.bincount(chosen, minlength=50))
    found = sums_of(features, weights)
    assert found.count == 70
    assert_same(found.statistics(), statistics_of(features[chosen]))


def test_distance_is_torch_fidelitys_too():
    one, other = statistics_of(normal(80, 30)), statistics_of(1.5 * normal(90, 30, seed=1))
    named = [{"mu": x.mean, "sigma": x.covariance} for x in (one, other)]
    found = theirs.fid_statistics_to_metric(*named, verbose=False)[theirs.KEY_METRIC_FID]
    assert frechet_distance(one, other) == pytest.approx(found, rel=1e-9)


def test_fewer_images_than_features_still_give_the_distance():
    """The covariances are singular; the overlap is the nuclear norm of the images' products."""
    x, y = normal(8, 30).double(), normal(9, 30, seed=1).double()
    a, b = (x - x.mean(0)) / np.sqrt(7), (y - y.mean(0)) / np.sqrt(8)
    overlap = torch.linalg.svdvals(a @ b.T).sum()
    shift = (x.mean(0) - y.mean(0)).square().sum()
    expected = shift + a.square().sum() + b.square().sum() - 2 * overlap
    found = frechet_distance(statistics_of(x), statistics_of(y))
    assert found == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("images", [8, 90])
def test_torch_finds_the_overlap_that_numpy_finds(images):
    """What a GPU computes; with fewer images than features, too."""
    one, other = statistics_of(normal(images, 30)), statistics_of(normal(80, 30, seed=1))
    spread = np.trace(one.covariance) + np.trace(other.covariance)
    shift = np.square(one.mean - other.mean).sum()
    expected = (shift + spread - frechet_distance(one, other)) / 2
    assert overlap_on(one, other, torch.device("cpu")) == pytest.approx(expected, rel=1e-9)


def test_the_discrepancy_is_torch_fidelitys():
    one, other = normal(70, 30).double(), normal(70, 30, seed=1, shift=0.3).double()
    expected = kernel_mmd(one.numpy(), other.numpy())
    assert float(discrepancy(one, other)) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_scores_as_a_cpu_does():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    one, other = normal(300, 40), normal(250, 40, seed=1, shift=0.2)
    sums = statistics_of(one), statistics_of(other)
    assert frechet_distance(*sums, cuda) == pytest.approx(frechet_distance(*sums), rel=1e-9)
    exact, found = (kernel_distance(one, other, 5, 100, where) for where in (cpu, cuda))
    assert found == pytest.approx(exact, rel=1e-9)


def test_the_spread_of_fid_repeats_and_shrinks_with_more_images():
    few, target = normal(80, 8, shift=0.4), statistics_of(normal(90, 8, seed=1))
    many = few.repeat(9, 1)
    spread = resampled_deviation(few, target, 30)
    assert spread == resampled_deviation(few, target, 30)
    assert 1.5 < spread / resampled_deviation(many, target, 30) < 6


def test_the_spread_of_fid_is_that_of_fresh_draws():
    target = statistics_of(normal(500, 4, seed=99))
    draws = [normal(200, 4, seed=seed, shift=0.5) for seed in range(60)]
    fids = [frechet_distance(statistics_of(draw), target) for draw in draws]
    assert 0.6 < resampled_deviation(draws[0], target, 60) / np.std(fids, ddof=1) < 1.7
