"""A codebook in training: clusters at the start, moving means, revival."""

import numpy as np
import pytest
import torch

from pcb.tokenizer.codebook import MovingCodebook, perplexity
from pcb.tokenizer.quantize import normalize


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def choose(codebook: MovingCodebook, latents: torch.Tensor) -> torch.Tensor:
    return (latents @ codebook.codes_VC.T).argmax(1)


def test_it_starts_with_the_clusters_of_the_latents():
    centers = torch.eye(4)
    latents = normalize(centers.repeat(50, 1) + 0.05 * unit(200, 4), dim=1)
    found = [MovingCodebook.start(torch.zeros(4, 4), latents, 0.9, rng(i)) for i in range(5)]
    best = max((centers @ codebook.codes_VC.T).max(1).values.min() for codebook in found)
    assert best > 0.99
    for codebook in found:
        torch.testing.assert_close(codebook.codes_VC.norm(dim=1), torch.ones(4))


def test_it_starts_even_with_fewer_latents_than_codes():
    codebook = MovingCodebook.start(torch.zeros(16, 8), unit(5, 8), 0.9, rng())
    torch.testing.assert_close(codebook.codes_VC.norm(dim=1), torch.ones(16))


def test_codes_are_the_directions_of_moving_means():
    codebook = MovingCodebook.start(torch.zeros(6, 4), unit(60, 4), 0.8, rng())
    sums, counts = codebook.sums_VC.clone(), codebook.counts_V.clone()
    for step in range(3):
        latents = unit(10, 4, seed=step + 1)
        codes = choose(codebook, latents)
        codebook.update(latents, codes)
        for code in range(6):
            own = latents[codes == code]
            sums[code] = 0.8 * sums[code] + 0.2 * own.sum(0)
            counts[code] = 0.8 * counts[code] + 0.2 * len(own)
    torch.testing.assert_close(codebook.codes_VC, normalize(sums, 1))
    torch.testing.assert_close(codebook.counts_V, counts)


def test_the_codes_are_the_tensor_that_was_given():
    codes = torch.zeros(6, 4)
    codebook = MovingCodebook.start(codes, unit(60, 4), 0.8, rng())
    codebook.update(unit(10, 4, seed=1), torch.zeros(10, dtype=torch.long))
    assert codebook.codes_VC is codes


def test_unused_codes_are_revived_where_latents_are_badly_served():
    codebook = MovingCodebook.start(torch.zeros(8, 4), unit(80, 4), 0.9, rng())
    # All codes but the first two end on one spot far from all latents.
    latents = normalize(unit(100, 4, seed=3).abs(), dim=1)
    codebook.codes_VC[2:] = -0.5
    codebook.sums_VC[2:] = -0.5
    codebook.codes_VC[:2] = codebook.sums_VC[:2] = latents[:2]
    for _ in range(4):
        codebook.update(latents, choose(codebook, latents))
    before = (latents @ codebook.codes_VC.T).max(1).values.mean()
    codes = choose(codebook, latents)
    options = {"patience": 3, "random": rng()}
    assert codebook.revive(latents, codes, most=4, **options) == 4
    assert codebook.revive(latents, codes, most=4, **options) == 2
    assert codebook.revive(latents, codes, most=4, **options) == 0
    after = (latents @ codebook.codes_VC.T).max(1).values.mean()
    assert after > before + 0.03
    assert len(choose(codebook, latents).unique()) == 8


def test_codes_in_use_are_left_alone():
    latents = unit(50, 4)
    codebook = MovingCodebook.start(torch.zeros(4, 4), latents, 0.9, rng())
    for _ in range(5):
        codebook.update(latents, choose(codebook, latents))
    codes = codebook.codes_VC.clone()
    assert (
        codebook.revive(latents, choose(codebook, latents), patience=3, most=4, random=rng()) == 0
    )
    assert torch.equal(codebook.codes_VC, codes)


def test_perplexity_counts_equal_codes():
    assert perplexity(torch.tensor([2.0, 2.0, 0.0, 2.0])) == pytest.approx(3)
    assert perplexity(torch.tensor([5.0, 0.0])) == pytest.approx(1)
