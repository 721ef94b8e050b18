"""Random numbers that belong to an image."""

import numpy as np
import pytest

from pcb.sample.uniforms import labels, uniforms


def test_numbers_depend_on_seed_image_scale_and_cell_alone():
    some = uniforms(3, np.array([5, 9]), (1, 2, 8))
    again = uniforms(3, np.array([9]), (1, 4, 8))
    assert some.dtype == np.float32
    assert some.shape == (2, 69)
    np.testing.assert_array_equal(some[1, -64:], again[0, -64:])
    np.testing.assert_array_equal(some[1, :1], again[0, :1])
    assert not np.array_equal(some[0], some[1])
    assert not np.array_equal(some[0], uniforms(4, np.array([5]), (1, 2, 8))[0])


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_numbers_are_those_of_numpys_generators(seed):
    """One generator an image and scale, as NumPy makes them; all of a batch at once, here."""
    indices, sizes = np.array([0, 1, 49_999, 2**40]), (1, 2, 3, 5, 8, 16)
    found = uniforms(seed, indices, sizes)
    assert found.dtype == np.float32
    for row, index in zip(found, indices, strict=True):
        key = np.array([seed, index], dtype=np.uint64)
        expected = [
            np.random.Generator(np.random.Philox(key=key, counter=[0, size, 0, 0])).random(
                size * size, dtype=np.float32
            )
            for size in sizes
        ]
        np.testing.assert_array_equal(row, np.concatenate(expected))
    assert uniforms(seed, indices[:0], sizes).shape == (0, 359)


def test_numbers_are_uniform_and_uncorrelated_between_scales_and_images():
    numbers = uniforms(0, np.arange(2000), (3, 4)).astype(np.float64)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01
    correlation = np.corrcoef(numbers.T) - np.eye(25)
    assert np.abs(correlation).max() < 0.12


def test_labels_go_round():
    np.testing.assert_array_equal(labels(3, np.arange(5)), [0, 1, 2, 0, 1])
