"""Random numbers that belong to an image, and the inverse of a cumulative distribution."""

import numpy as np
import pytest
import torch

from pcb.sample.draw import codes_from_uniforms, draw_codes, labels, uniforms


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


def test_codes_follow_their_probabilities():
    probabilities = torch.tensor([[0.5, 0.0, 0.2, 0.3]]).expand(1, 20_000, 4)
    numbers = torch.from_numpy(np.random.default_rng(0).random((1, 20_000), dtype=np.float32))
    codes = codes_from_uniforms(probabilities, numbers)
    shares = torch.bincount(codes[0], minlength=4) / 20_000
    torch.testing.assert_close(shares, probabilities[0, 0], atol=0.015, rtol=0)
    assert shares[1] == 0


def test_the_ends_of_the_unit_interval_give_possible_codes():
    probabilities = torch.tensor([[[0.0, 0.4, 0.6, 0.0]]])
    for number, code in ((0.0, 1), (0.39999, 1), (0.4001, 2), (1 - 2**-24, 2)):
        assert codes_from_uniforms(probabilities, torch.tensor([[number]])).item() == code


def test_temperature_sharpens_and_zero_takes_the_likeliest():
    logits = torch.tensor([[[0.0, 1.0, 3.0, 2.0]]]).expand(1, 1000, 4)
    numbers = torch.linspace(0, 0.999, 1000)[None]
    share = [
        (draw_codes(logits, numbers, temperature) == 2).float().mean().item()
        for temperature in (5.0, 1.0, 0.2, 0)
    ]
    assert share == sorted(share)
    assert share[-1] == 1.0


def test_labels_go_round():
    np.testing.assert_array_equal(labels(3, np.arange(5)), [0, 1, 2, 0, 1])
