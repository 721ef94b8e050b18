"""Attention to the positions of a call and to those cached before it.

Letters: R rows (one or two per image), L positions of this call, M positions attended to, N heads,
H head dim, C = N * H.
"""

from dataclasses import dataclass

from torch import Tensor

from pcb.model.cache import Cache
from pcb.model.exact import attend


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the positions of one call attend to, the same for every layer.

    mask: (L, M) True where row sees column, None where all see all M. cache: None outside decoding.
    start: the first position's place in the cache; M is then the place after the last one.
    """

    mask: Tensor | None = None
    cache: Cache | None = None
    start: int = 0

    def store(self, layer: int, k_RLNH: Tensor, v_RLNH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values to attend to, (R, N, M, H): those cached, then these."""
        k_RNLH, v_RNLH = k_RLNH.transpose(1, 2), v_RLNH.transpose(1, 2)
        if self.cache is None:
            return k_RNLH, v_RNLH
        return self.cache.update(layer, self.start, k_RNLH, v_RNLH)

    def attend(
        self,
        layer: int,
        q_RLNH: Tensor,
        k_RLNH: Tensor,
        v_RLNH: Tensor,
        scale: float | None = None,
    ) -> Tensor:
        """Store keys and values at a layer's place, and return `attend` to all there, (R, L, C)."""
        stored = self.store(layer, k_RLNH, v_RLNH)
        return attend(q_RLNH.transpose(1, 2), *stored, self.mask, scale)
