"""Classifier-free guidance that sets in at a step (paper, section 5; method section 6).

Both conventions are in use: here the weight g is what is *added*, cond + g (cond - uncond), so 0
is off; most other papers print g + 1.
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
