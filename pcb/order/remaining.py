"""Blocks by how many tokens are to be left after each (ARPG, arXiv 2503.10568)."""

import math
from typing import Literal, TypeAlias

Curve: TypeAlias = Literal["arccos", "cosine", "first release"]


def remaining_blocks(tokens: int, steps: int, curve: Curve) -> tuple[int, ...]:
    """Return the sizes of the blocks.

    arccos: after t of S steps arccos(t / S) / (pi / 2) of the tokens are left, rounded down. Blocks
    are about equal, but the last has a sixth of all where S is 32.
    cosine: cos(pi t / 2S) are left. first release: likewise, one token aside, rounded the other
    way. Every block has a token at least, and leaves one to the next.

    Raises ValueError where there are fewer tokens than steps.
    """
    if not 1 <= steps <= tokens:
        raise ValueError(f"{tokens} tokens cannot be sampled in {steps} blocks of one or more")
    sizes: list[int] = []
    for step in range(1, steps):
        sampled = sum(sizes)
        if curve == "first release":
            goal = math.floor(tokens * (1 - math.cos(math.pi * step / (2 * steps))) + 1) - 1
            sizes.append(min(max(goal - sampled, 1), tokens - 1 - sampled))
            continue
        if curve == "arccos":
            fraction = math.acos(step / steps) / (math.pi / 2)
        else:
            fraction = math.cos(math.pi * step / (2 * steps))
        left = max(1, min(tokens - sampled - 1, math.floor(tokens * fraction)))
        sizes.append(tokens - sampled - left)
    sizes.append(tokens - sum(sizes))
    if min(sizes) < 1:
        raise ValueError(f"{curve}: {tokens} tokens in {steps} steps leave an empty block: {sizes}")
    return tuple(sizes)
