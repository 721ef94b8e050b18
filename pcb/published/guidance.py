"""Classifier-free guidance of the other systems: its strength for each token.

The scale s mixes logits with the class, c, and without, u, as u + s (c - u): 1 is off. The paper's
own model counts what is added, s - 1; `pcb.sample.guidance` mixes both. No torch is loaded here.
"""

from collections.abc import Sequence as Items
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Guidance(Protocol):
    """A schedule of guidance."""

    @property
    def on(self) -> bool:
        """Whether any token needs the logits without a class."""
        ...

    def scales(self, sizes: Items[int]) -> "NDArray[np.float64]":
        """Return the scale of every token in sampling order, (T,), for blocks of these sizes."""
        ...


class Constant(msgspec.Struct, frozen=True, tag="constant", tag_field="kind"):
    """The same scale for all tokens."""

    scale: float = 1.0

    @property
    def on(self) -> bool:
        """Whether any token needs the logits without a class."""
        return self.scale != 1

    def scales(self, sizes: Items[int]) -> "NDArray[np.float64]":
        """Return the scale of every token."""
        import numpy as np

        return np.full(sum(sizes), self.scale, dtype=np.float64)


OFF = Constant()

Count = Literal["before block", "next", "with block", "before token"]
"""What counts as done for a token: all blocks before its own; one token more; its own block too;
or the tokens before it, in sampling order."""


class Linear(msgspec.Struct, frozen=True, kw_only=True, tag="linear", tag_field="kind"):
    """From `first` to `last`, linear in the fraction of tokens that is done."""

    last: float
    first: float = 1.0
    count: Count

    @property
    def on(self) -> bool:
        """Whether any token needs the logits without a class."""
        return self.first != 1 or self.last != 1

    def scales(self, sizes: Items[int]) -> "NDArray[np.float64]":
        """Return the scale of every token."""
        import numpy as np

        tokens, ends = sum(sizes), np.cumsum(sizes)
        done = {
            "before block": np.repeat(ends - sizes, sizes),
            "next": np.repeat(ends - sizes + 1, sizes),
            "with block": np.repeat(ends, sizes),
            "before token": np.arange(tokens),
        }[self.count]
        return np.asarray(self.first + (self.last - self.first) * done / tokens)


class Ramp(msgspec.Struct, frozen=True, tag="ramp", tag_field="kind"):
    """1 + added * k / (K - 1) for the k-th of K blocks: off in the first, full in the last."""

    added: float

    @property
    def on(self) -> bool:
        """Whether any token needs the logits without a class."""
        return self.added != 0

    def scales(self, sizes: Items[int]) -> "NDArray[np.float64]":
        """Return the scale of every token."""
        import numpy as np

        return np.repeat(np.linspace(1, 1 + self.added, len(sizes)), sizes)


Schedule: TypeAlias = Constant | Linear | Ramp
"""What a system's entry may say."""
