"""Options of sampling: steps or blocks, guidance, temperature, seed. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from pcb.config.sweep import GUIDANCE_START
from pcb.errors import UserError
from pcb.order.allocation import schedule_from_total
from pcb.order.blocks_text import Cut, blocks_text
from pcb.order.schedule import Schedule, num_tokens, schedule_from_blocks

STEPS = 17
"""Steps where neither steps nor blocks are given: where the paper's curves have become flat."""
_LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class Options:
    """What an image depends on, beside its model, its class and its index.

    Raises UserError for a value out of its range.
    """

    steps: int | None = None
    """Serial steps over all scales, shared out as `pcb.order.allocation` does; instead of `blocks`.
    With neither it is 17, or the nearest number that the model's scales allow."""
    blocks: int | Sequence[Cut] | None = None
    """K of the paper, at least 1, or for each scale, coarse to fine, the number of its blocks or
    their sizes."""
    guidance: float | None = None
    """Weight g >= 0 of cond + g (cond - uncond); other papers print g + 1. 0 is off; None is what a
    system of the table was published with, and off for the paper's own models."""
    guidance_start: int = GUIDANCE_START
    """First guided step, from 0, counted over all scales; systems of the table have none."""
    temperature: float = 1.0
    """Logits are divided by it; 0 takes the likeliest code."""
    seed: int = 0
    """From 0 to 2^64 - 1: with an image's index the key of all its random numbers."""

    def __post_init__(self) -> None:
        if self.blocks is not None and not isinstance(self.blocks, int):
            object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.steps is not None and self.blocks is not None:
            raise UserError("steps and blocks exclude each other; give one of them")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise UserError(f"seed {self.seed}: expected a number from 0 to 2^64 - 1")
        for name, value in (
            ("temperature", self.temperature),
            ("guidance", self.guidance or 0.0),
            ("guidance_start", self.guidance_start),
        ):
            # Not `value < 0`: NaN is refused too.
            if not value >= 0 or value == float("inf"):
                raise UserError(f"{name} {value:g}: expected a finite number of at least 0")

    def schedule(self, sizes: Sequence[int]) -> Schedule:
        """Return the schedule for a model with these scales.

        Raises UserError for steps or blocks that its scales do not have, with the nearest.
        """
        least, most = len(sizes), num_tokens(sizes)
        if self.blocks is not None:
            return _schedule_of_blocks(sizes, self.blocks)
        steps = min(max(STEPS, least), most) if self.steps is None else self.steps
        if not least <= steps <= most:
            raise UserError(
                f"no schedule of {steps} steps for scales {' '.join(map(str, sizes))}; the nearest "
                f"has {min(max(steps, least), most)} (from {least}, one block per scale, to {most},"
                " one per token)"
            )
        return schedule_from_total(sizes, steps)


def _schedule_of_blocks(sizes: Sequence[int], blocks: int | Sequence[Cut]) -> Schedule:
    try:
        return schedule_from_blocks(sizes, blocks)
    except ValueError as error:
        raise UserError(f"blocks {blocks_text(blocks)}: {error}") from None
