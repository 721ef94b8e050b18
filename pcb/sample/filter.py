"""Sampling of codes from logits: temperature, top-k, top-p, inverse cumulative distribution.

Letters: B images, n tokens of a block, V codes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which codes may be sampled: first temperature, then top-k, then top-p.

    temperature: 0 takes the likeliest code. top_k: 0 keeps all. top_p in (0, 1]: 1 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"need temperature >= 0, top_k >= 0 and 0 < top_p <= 1, got {self}")


EVERYTHING = Filter()
GREEDY = Filter(temperature=0.0)


def filtered(logits_BnV: Tensor, filter: Filter) -> Tensor:
    """Return the float32 logits divided by the temperature, -inf where a code may not be sampled.

    Top-k keeps all that are not below the k-th, so more than k where there are ties. Top-p then
    keeps, from the likeliest on, each code before which the sum of probabilities is at most p, so
    always the first; codes of equal logits rank by their index. A temperature of 0 divides by 1.
    """
    logits_BnV = logits_BnV.float()
    if filter.temperature not in (0, 1):
        logits_BnV = logits_BnV / filter.temperature
    if 0 < filter.top_k < logits_BnV.shape[-1]:
        least = logits_BnV.topk(filter.top_k, dim=-1).values[..., -1:]
        logits_BnV = logits_BnV.masked_fill(logits_BnV < least, -torch.inf)
    if filter.top_p < 1:
        ranked, codes = logits_BnV.sort(dim=-1, descending=True, stable=True)
        before = F.pad(ranked.softmax(-1).cumsum(-1)[..., :-1], (1, 0))
        ranked = ranked.masked_fill(before > filter.top_p, -torch.inf)
        logits_BnV = torch.empty_like(ranked).scatter_(-1, codes, ranked)
    return logits_BnV


def sample_codes(
    logits_BnV: Tensor, uniforms_Bn: Tensor, filter: Filter = EVERYTHING
) -> tuple[Tensor, Tensor]:
    """Return one code per token by its own uniform number, and the codes' probabilities.

    Codes are (B, n) int64, probabilities (B, n, V) float32: those that are sampled from, or at
    temperature 0, which samples nothing, those of temperature 1.
    """
    probabilities_BnV = filtered(logits_BnV, filter).softmax(-1)
    if filter.temperature == 0:
        return logits_BnV.argmax(-1), probabilities_BnV
    return codes_from_uniforms(probabilities_BnV, uniforms_Bn), probabilities_BnV


def codes_from_uniforms(probabilities_BnV: Tensor, uniforms_Bn: Tensor) -> Tensor:
    """Return the (B, n) codes at which the cumulative probability first exceeds the uniforms."""
    cumulative = probabilities_BnV.cumsum(-1)
    # The last sum differs from 1 by rounding; scaling the uniform keeps it below the total.
    target = (uniforms_Bn * cumulative[..., -1])[..., None]
    codes = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return codes.clamp(max=probabilities_BnV.shape[-1] - 1)
