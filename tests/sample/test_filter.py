"""From logits to codes: temperature, top-k, top-p, and the inverse of a cumulative distribution."""

import numpy as np
import pytest
import torch

from pcb.sample.filter import EVERYTHING, Filter, codes_from_uniforms, filtered, sample_codes
from tests.systems.golden import Golden


def test_codes_follow_their_probabilities():
    probabilities = torch.tensor([[0.5, 0.0, 0.2, 0.3]]).expand(1, 20_000, 4)
    numbers = torch.from_numpy(np.random.default_rng(0).random((1, 20_000), dtype=np.float32))
    codes = codes_from_uniforms(probabilities, numbers)
    fractions = torch.bincount(codes[0], minlength=4) / 20_000
    torch.testing.assert_close(fractions, probabilities[0, 0], atol=0.015, rtol=0)
    assert fractions[1] == 0


def test_the_ends_of_the_unit_interval_give_possible_codes():
    probabilities = torch.tensor([[[0.0, 0.4, 0.6, 0.0]]])
    for number, code in ((0.0, 1), (0.39999, 1), (0.4001, 2), (1 - 2**-24, 2)):
        assert codes_from_uniforms(probabilities, torch.tensor([[number]])).item() == code


def test_temperature_sharpens_and_zero_takes_the_likeliest():
    logits = torch.tensor([[[0.0, 1.0, 3.0, 2.0]]]).expand(1, 1000, 4)
    numbers = torch.linspace(0, 0.999, 1000)[None]
    fraction = [
        (sample_codes(logits, numbers, Filter(temperature=temperature))[0] == 2)
        .float()
        .mean()
        .item()
        for temperature in (5.0, 1.0, 0.2, 0)
    ]
    assert fraction == sorted(fraction)
    assert fraction[-1] == 1.0


def kept(logits, **settings):
    return filtered(torch.tensor([logits]), Filter(**settings))[0].isfinite().tolist()


def slow(logits, temperature, top_k, top_p):
    """One token's codes that may be sampled, by sorting them in Python."""
    scaled = [float(x) / temperature for x in logits]
    allowed = set(range(len(scaled)))
    if top_k:
        least = sorted(scaled, reverse=True)[min(top_k, len(scaled)) - 1]
        allowed = {i for i in allowed if scaled[i] >= least}
    weights = {i: torch.tensor(scaled[i], dtype=torch.float64).exp().item() for i in allowed}
    total, before, result = sum(weights.values()), 0.0, set()
    for i in sorted(allowed, key=lambda i: (-scaled[i], i)):
        if top_p == 1 or before <= top_p:
            result.add(i)
        before += weights[i] / total
    return result


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("top_k", [0, 1, 5, 30, 99])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_a_slow_filter_keeps_the_same(temperature, top_k, top_p):
    torch.manual_seed(0)
    logits = 3 * torch.randn(4, 6, 40)
    found = filtered(logits, Filter(temperature=temperature, top_k=top_k, top_p=top_p))
    for one, result in zip(logits.flatten(0, 1), found.flatten(0, 1), strict=True):
        allowed = slow(one, temperature, top_k, top_p)
        assert set(result.isfinite().nonzero()[:, 0].tolist()) == allowed
        assert torch.equal(result[result.isfinite()], (one / temperature)[result.isfinite()])


def test_ties():
    assert kept([1.0, 2.0, 1.0, 0.0], top_k=2) == [True, True, True, False]
    assert kept([1.0, 1.0, 1.0, 1.0], top_p=0.4) == [True, True, False, False]
    # What comes before the third is exactly p.
    assert kept([0.0, 0.0, 0.0, 0.0], top_p=0.5) == [True, True, True, False]
    assert kept([0.0, 9.0, 0.0], top_p=1e-9) == [False, True, False]


def test_filtered_probabilities_are_the_recorded_ones():
    golden = Golden("llamagen")
    logits, expected = golden["filter_in"], golden["filter_probs_t0.7_k20_p0.9"]
    filter = Filter(temperature=0.7, top_k=20, top_p=0.9)
    _, found = sample_codes(logits, torch.zeros(len(logits)), filter)
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("filter", [EVERYTHING, Filter(top_k=3), Filter(top_p=0.7)])
def test_codes_are_sampled_from_the_probabilities(filter):
    torch.manual_seed(0)
    logits = (2 * torch.randn(1, 1, 8)).expand(1, 40_000, 8)
    numbers = (torch.arange(40_000) + 0.5)[None] / 40_000
    codes, probabilities = sample_codes(logits, numbers, filter)
    fractions = torch.bincount(codes[0], minlength=8) / 40_000
    torch.testing.assert_close(fractions, probabilities[0, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1, 40_000))


def test_at_temperature_zero_probabilities_are_those_of_one():
    logits = torch.randn(2, 3, 8)
    codes, probabilities = sample_codes(logits, torch.rand(2, 3), Filter(temperature=0.0))
    assert torch.equal(codes, logits.argmax(-1))
    torch.testing.assert_close(probabilities, logits.softmax(-1))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_senseless_filters_are_refused(wrong):
    with pytest.raises(ValueError, match="need temperature"):
        Filter(**wrong)
