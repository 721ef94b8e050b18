"""The Inception score under other orders of the images, and its warning."""

import numpy as np
import pytest
import torch

from pcb.metrics.inception_score import inception_score, label_warning, order_warning

CLASSES = 20


def logits_of(labels, noise=1.0, seed=0):
    """Logits that see the class, more or less."""
    random = np.random.default_rng(seed)
    seen = 6 * np.eye(CLASSES)[labels] + noise * random.normal(size=(len(labels), CLASSES))
    return torch.from_numpy(seen.astype(np.float32))


ROUND_ROBIN = np.arange(1000) % CLASSES
SORTED = np.sort(ROUND_ROBIN)
RANDOM = np.random.default_rng(0).permutation(ROUND_ROBIN)


def test_class_sorted_images_lose_score_and_are_warned_of():
    given, _ = inception_score(logits_of(SORTED), 10)
    fair, _ = inception_score(logits_of(RANDOM), 10)
    assert given < 0.3 * fair
    warning = order_warning(logits_of(SORTED), 10)
    assert f"{given:.4g} over 10 consecutive splits" in warning
    assert "sorted by class" in warning and "shuffle" in warning


@pytest.mark.parametrize("labels", [RANDOM, ROUND_ROBIN], ids=["random", "in turn"])
def test_other_orders_pass(labels):
    assert order_warning(logits_of(labels), 10) is None
    assert label_warning(labels, 10) is None


def test_one_split_has_no_order():
    assert order_warning(logits_of(SORTED), 1) is None
    assert label_warning(SORTED, 1) is None


@pytest.mark.parametrize("seed", range(20))
def test_chance_in_small_splits_is_no_warning(seed):
    labels = np.random.default_rng(seed).permutation(ROUND_ROBIN)[:60]
    assert order_warning(logits_of(labels, noise=4, seed=seed), 6) is None
    assert label_warning(labels, 6) is None


def test_sorted_labels_are_warned_of_with_both_numbers():
    warning = label_warning(SORTED, 10)
    assert "are 2 over 10 consecutive splits, 19.9 over as many of shuffled" in warning


def test_half_sorted_labels_are_warned_of():
    """Two halves of the classes, each in random order: half the classes a split."""
    halves = np.concatenate([RANDOM[RANDOM < 10], RANDOM[RANDOM >= 10]])
    assert label_warning(halves, 10) is not None
    assert order_warning(logits_of(halves), 10) is not None
