"""Resizing against a double loop, and what conditioning is made of."""

import numpy as np
import pytest
import torch

from pcb.tokenizer.pyramid import conditioning, image_pyramid, resize_bilinear, upsample_codes
from pcb.tokenizer.quantize import normalize


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def resize_by_loops(x: np.ndarray, size: int) -> np.ndarray:
    """Sample a square image at the centers of size x size pixels, bilinear, edges repeated."""
    side = len(x)
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            rows, columns = (max((k + 0.5) * side / size - 0.5, 0.0) for k in (i, j))
            r, c = int(rows), int(columns)
            r2, c2 = min(r + 1, side - 1), min(c + 1, side - 1)
            top = (1 - columns + c) * x[r, c] + (columns - c) * x[r, c2]
            bottom = (1 - columns + c) * x[r2, c] + (columns - c) * x[r2, c2]
            out[i, j] = (1 - rows + r) * top + (rows - r) * bottom
    return out


@pytest.mark.parametrize(("side", "size"), [(8, 3), (3, 8), (5, 5), (1, 4), (16, 1)])
def test_resize_is_bilinear_without_antialiasing(side: int, size: int):
    x = randn(1, 1, side, side)
    expected = resize_by_loops(x[0, 0].double().numpy(), size)
    np.testing.assert_allclose(resize_bilinear(x, size)[0, 0], expected, atol=1e-5)


def test_image_pyramid_has_stride_pixels_a_token_and_keeps_the_finest():
    images = randn(2, 3, 32, 32)
    pyramid = image_pyramid(images, (1, 3, 8), stride=4)
    assert {size: tuple(x.shape) for size, x in pyramid.items()} == {
        1: (2, 3, 4, 4),
        3: (2, 3, 12, 12),
        8: (2, 3, 32, 32),
    }
    assert torch.equal(pyramid[8], images)


def test_upsampled_codes_have_length_one():
    vectors = normalize(randn(2, 8, 3, 3), dim=1)
    for size in (3, 4, 7):
        lengths = upsample_codes(vectors, size).norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones(2, size, size))


def test_each_scale_is_conditioned_on_the_one_before_alone():
    codebook = normalize(randn(10, 8), dim=1)
    codes = {size: torch.full((2, size, size), size) for size in (1, 2, 4)}
    sources = conditioning(codes, codebook, (1, 2, 4))
    assert torch.equal(sources[1], torch.zeros(2, 8, 1, 1))
    for before, size in ((1, 2), (2, 4)):
        expected = codebook[before][None, :, None, None].expand(2, 8, size, size)
        torch.testing.assert_close(sources[size], expected)
