"""Classifier-free guidance: mixing, and how the paper's own model is guided (method section 6).

Two conventions are in use. The paper's own model counts what is *added*, cond + g (cond - uncond),
so 0 is off, and starts at a step (paper, section 5); the others print s = g + 1, so 1 is off, and
their schedules give every token its scale (`pcb.published.guidance`). Each is computed as it is
written, to the last bit.

Letters: n tokens of a block, V codes.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Weight and first guided step, counted over all scales from the coarsest block as step 0."""

    weight: float = 0.0
    start_step: int = 0

    def active(self, step: int) -> bool:
        """Whether this step needs the logits of the null class."""
        return self.weight != 0 and step >= self.start_step

    def mix(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        """Return the guided logits."""
        return conditional + self.weight * (conditional - unconditional)


OFF = Guidance()


def mix(conditional: Tensor, unconditional: Tensor, scales_n: Tensor) -> Tensor:
    """Return the guided (..., n, V) logits; `scales_n` on their device, in their dtype."""
    return unconditional + scales_n[:, None] * (conditional - unconditional)
