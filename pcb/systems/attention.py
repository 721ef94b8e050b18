"""Attention with a cache of fixed size, for systems whose attention has no phases of its own kind.

Letters: R rows (one or two per image), L positions of this call, M positions attended to, N heads,
H head dim.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pcb.model.cache import Cache


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the positions of one call attend to, the same for every layer.

    mask: (L, M) True where row sees column, None where all see all M. cache: None outside decoding.
    start: the first position's place in the cache; M is then the place after the last one.
    """

    mask: Tensor | None = None
    cache: Cache | None = None
    start: int = 0

    def attend(
        self,
        layer: int,
        q_RLNH: Tensor,
        k_RLNH: Tensor,
        v_RLNH: Tensor,
        scale: float | None = None,
    ) -> Tensor:
        """Return softmax(scale * q k) v, (R, L, N * H); without a scale it is 1 / sqrt(H)."""
        q_RNLH, k_RNMH, v_RNMH = (x.transpose(1, 2) for x in (q_RLNH, k_RLNH, v_RLNH))
        if self.cache is not None:
            k_RNMH, v_RNMH = self.cache.update(layer, self.start, k_RNMH, v_RNMH)
        out = F.scaled_dot_product_attention(
            q_RNLH, k_RNMH, v_RNMH, attn_mask=self.mask, scale=scale
        )
        return out.transpose(1, 2).flatten(2)
