"""Which codes may be drawn, and the draw: temperature, then top-k, then top-p.

Letters: B images, n tokens of a block, V codes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pcb.sample.draw import draw_codes


@dataclass(frozen=True, kw_only=True)
class Filter:
    """temperature: 0 takes the likeliest code. top_k: 0 keeps all. top_p in (0, 1]: 1 keeps all."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"need temperature >= 0, top_k >= 0 and 0 < top_p <= 1, got {self}")


EVERYTHING = Filter()
GREEDY = Filter(temperature=0.0)


def filtered(logits_BnV: Tensor, filter: Filter) -> Tensor:
    """Return the float32 logits divided by the temperature, -inf where a code may not be drawn.

    Top-k keeps all that are not below the k-th, so more than k where there are ties. Top-p then
    keeps, from the likeliest on, each code before which the sum of probabilities is at most p, so
    always the first; codes of equal logits rank by their index.
    """
    logits_BnV = logits_BnV.float() / filter.temperature
    vocabulary = logits_BnV.shape[-1]
    if 0 < filter.top_k < vocabulary:
        least = logits_BnV.topk(filter.top_k, dim=-1).values[..., -1:]
        logits_BnV = logits_BnV.masked_fill(logits_BnV < least, -torch.inf)
    if filter.top_p < 1:
        ranked, codes = logits_BnV.sort(dim=-1, descending=True, stable=True)
        before = F.pad(ranked.softmax(-1).cumsum(-1)[..., :-1], (1, 0))
        ranked = ranked.masked_fill(before > filter.top_p, -torch.inf)
        logits_BnV = torch.empty_like(ranked).scatter_(-1, codes, ranked)
    return logits_BnV


def draw(logits_BnV: Tensor, uniforms_Bn: Tensor, filter: Filter) -> Tensor:
    """Draw one code per token by its own uniform number: (B, n) int64."""
    if filter.temperature == 0:
        return draw_codes(logits_BnV, uniforms_Bn, 0)
    return draw_codes(filtered(logits_BnV, filter), uniforms_Bn, 1)
