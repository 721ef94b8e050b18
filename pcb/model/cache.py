"""Keys and values of the tokens sampled so far, in storage of a fixed size.

Letters: B batch, L positions, N heads, H head dim.
"""

import torch
from torch import Tensor


class Cache:
    """Keys and values of every layer for up to `length` positions, allocated once.

    A view on some of the batch's rows (`rows`) shares the storage, so that the unguided branch can
    be filled in later than the guided one.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Wrap storage of shape (layers, B, N, length, H); use `allocate` to make some."""
        self._keys = keys
        self._values = values

    @classmethod
    def allocate(
        cls,
        *,
        layers: int,
        batch: int,
        heads: int,
        length: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> "Cache":
        """Return an empty cache."""
        shape = (layers, batch, heads, length, head_dim)
        keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
        return cls(keys, values)

    def rows(self, start: int, stop: int) -> "Cache":
        """Return a view on the batch rows start..stop."""
        return Cache(self._keys[:, start:stop], self._values[:, start:stop])

    def update(
        self, layer: int, start: int, keys_BNLH: Tensor, values_BNLH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Store positions from `start` on; return keys and values of positions 0 to the last."""
        stop = start + keys_BNLH.shape[2]
        length = self._keys.shape[3]
        assert stop <= length, f"position {stop} is past the cache's end at {length}"
        self._keys[layer, :, :, start:stop] = keys_BNLH
        self._values[layer, :, :, start:stop] = values_BNLH
        return self._keys[layer, :, :, :stop], self._values[layer, :, :, :stop]
