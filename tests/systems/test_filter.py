"""Temperature, top-k and top-p, their ties, and the draw."""

import pytest
import torch

from pcb.sample.draw import draw_codes
from pcb.systems.filter import EVERYTHING, GREEDY, Filter, draw, filtered


def kept(logits, **settings):
    return filtered(torch.tensor([logits]), Filter(**settings))[0].isfinite().tolist()


def slow(logits, temperature, top_k, top_p):
    """One token's codes that may be drawn, by sorting them in Python."""
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


def test_draws_are_those_of_the_papers_own_model_where_nothing_is_filtered():
    torch.manual_seed(0)
    logits, uniforms = torch.randn(3, 5, 30), torch.rand(3, 5)
    assert torch.equal(draw(logits, uniforms, EVERYTHING), draw_codes(logits, uniforms, 1.0))
    warm = Filter(temperature=0.7)
    assert torch.equal(draw(logits, uniforms, warm), draw_codes(logits, uniforms, 0.7))
    assert torch.equal(draw(logits, uniforms, GREEDY), logits.argmax(-1))
    assert torch.equal(draw(logits, uniforms, Filter(top_k=1)), logits.argmax(-1))


def test_codes_come_as_often_as_they_should_and_others_never():
    torch.manual_seed(0)
    settings = Filter(temperature=0.8, top_k=6, top_p=0.8)
    logits, n = torch.randn(1, 1, 12), 20_000
    codes = draw(logits.expand(1, n, -1), (torch.arange(n)[None] + 0.5) / n, settings)
    shares = codes[0].bincount(minlength=12) / n
    expected = filtered(logits, settings).softmax(-1)[0, 0]
    torch.testing.assert_close(shares, expected, atol=2e-4, rtol=0)
    assert 0 < (expected == 0).sum() < 11
    edge = torch.tensor([[0.0, 1 - 2**-24]])
    assert expected[draw(logits.expand(1, 2, -1), edge, settings)].min() > 0


@pytest.mark.parametrize(
    "settings", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_impossible_filters_are_refused(settings):
    with pytest.raises(ValueError, match="0 < top_p <= 1"):
        Filter(**settings)
