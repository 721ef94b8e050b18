"""Nearest codes against all distances."""

import torch

from pcb.tokenizer.quantize import lookup, nearest_codes, normalize


def unit(*shape: int, dim: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim)


def test_nearest_code_has_the_smallest_distance():
    latents = unit(3, 8, 5, 7, dim=1, seed=0)
    codebook = unit(50, 8, dim=1, seed=1)
    rows = latents.permute(0, 2, 3, 1).reshape(-1, 8)
    expected = torch.cdist(rows.double(), codebook.double()).argmin(dim=1)
    assert torch.equal(nearest_codes(latents, codebook), expected.reshape(3, 5, 7))


def test_many_rows_are_compared_in_parts_with_the_same_result():
    latents, codebook = unit(3, 4, 64, 64, dim=1, seed=2), unit(16, 4, dim=1, seed=3)
    whole = nearest_codes(latents, codebook)
    alone = torch.cat([nearest_codes(image[None], codebook) for image in latents])
    assert torch.equal(whole, alone)


def test_lookup_undoes_nearest_code():
    codebook = unit(20, 8, dim=1, seed=4)
    codes = torch.arange(20).reshape(1, 4, 5)
    vectors = lookup(codes, codebook)
    assert vectors.shape == (1, 8, 4, 5)
    assert torch.equal(nearest_codes(vectors, codebook), codes)


def test_normalize_keeps_zero():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(normalize(x, dim=1), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
