"""From logits to codes: temperature, top-k, top-p, and the inverse of a cumulative distribution."""

import numpy as np
import pytest
import torch

from pcb.sample.filter import EVERYTHING, Filter, codes_from_uniforms, filtered, sample_codes
from tests.units import ROOT

REFERENCE = ROOT / "tests" / "reference" / "filter.npz"


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
        (sample_codes(logits, numbers, Filter(temperature=temperature))[0] == 2)
        .float()
        .mean()
        .item()
        for temperature in (5.0, 1.0, 0.2, 0)
    ]
    assert share == sorted(share)
    assert share[-1] == 1.0


def test_filtered_probabilities_are_the_recorded_ones():
    with np.load(REFERENCE) as file:
        logits, expected = (torch.from_numpy(file[name])[:, None] for name in file)
    filter = Filter(temperature=0.7, top_k=20, top_p=0.9)
    _, found = sample_codes(logits, torch.zeros(logits.shape[:2]), filter)
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_ties_at_the_kth_code_are_kept_and_the_likeliest_is_kept_always():
    logits = torch.tensor([[[2.0, 1.0, 1.0, 0.0]]])
    assert filtered(logits, Filter(top_k=2)).isfinite().tolist() == [[[True, True, True, False]]]
    assert filtered(logits, Filter(top_p=1e-6)).isfinite().tolist() == [[[True] + 3 * [False]]]
    assert torch.equal(filtered(logits, Filter(top_k=4)), logits)


@pytest.mark.parametrize("filter", [EVERYTHING, Filter(top_k=3), Filter(top_p=0.7)])
def test_codes_are_sampled_from_the_probabilities(filter):
    torch.manual_seed(0)
    logits = (2 * torch.randn(1, 1, 8)).expand(1, 40_000, 8)
    numbers = (torch.arange(40_000) + 0.5)[None] / 40_000
    codes, probabilities = sample_codes(logits, numbers, filter)
    shares = torch.bincount(codes[0], minlength=8) / 40_000
    torch.testing.assert_close(shares, probabilities[0, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1, 40_000))


def test_at_temperature_zero_probabilities_are_those_of_one():
    logits = torch.randn(2, 3, 8)
    codes, probabilities = sample_codes(logits, torch.rand(2, 3), Filter(temperature=0.0))
    assert torch.equal(codes, logits.argmax(-1))
    torch.testing.assert_close(probabilities, logits.softmax(-1))


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}])
def test_senseless_filters_are_refused(wrong):
    with pytest.raises(ValueError, match="need temperature"):
        Filter(**wrong)
