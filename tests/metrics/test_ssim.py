"""Structural similarity against a slow computation, window by window."""

import numpy as np
import pytest
import torch

from pcb.metrics.ssim import ssim


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over all 11 x 11 windows of two arrays (H, W) of pixels 0..255, as published."""
    places = np.arange(11) - 5.0
    weights = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(one.shape[0] - 10):
        for left in range(one.shape[1] - 10):
            x, y = (image[top : top + 11, left : left + 11] for image in (one, other))
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            cov = (weights * (x - mx) * (y - my)).sum()
            found.append(
                (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            )
    return float(np.mean(found))


def images(count: int = 2, height: int = 14, width: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_is_the_mean_over_windows_and_colors():
    one, other = images(4).chunk(2)
    mixed = 0.7 * one + 0.3 * other
    bytes_of = ((x.double().numpy() + 1) * 127.5 for x in (one, mixed))
    expected = [
        np.mean([slow_ssim(*pair) for pair in zip(x, y, strict=True)])
        for x, y in zip(*bytes_of, strict=True)
    ]
    np.testing.assert_allclose(ssim(one, mixed), expected, atol=1e-5)
    assert 0.3 < expected[0] < 0.99


def test_equal_images_have_similarity_one_and_inverted_ones_less_than_none():
    one = images()
    torch.testing.assert_close(ssim(one, one), torch.ones(2))
    assert float(ssim(one, -one).max()) < 0


def test_images_below_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(images(height=10), images(height=10))
