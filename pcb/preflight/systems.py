"""The cost of one image of the other systems of Table 1, from sizes and schedules. No torch.

Symbols: C width, F hidden width, V codes, T tokens. A block multiplies each position by
4 C^2 + 3 C F weights (SwiGLU) or 4 C^2 + 2 C F (two layers), and by 2 C for every position that it
attends to.
"""

from collections.abc import Iterable
from itertools import accumulate

from pcb.config import SystemRun
from pcb.order.random import cosine_blocks
from pcb.published.system import System


def weights(run: SystemRun) -> int:
    """Return the weights of the published size; of a toy it says too much."""
    return run.published.parameters


def width(system: System) -> int:
    """Return C."""
    return _number(system, "width")


def tokens(system: System) -> int:
    """Return T, over all scales where there are several."""
    return sum(side * side for side in system.sides)


def grid(system: System) -> int:
    """Return the side of the finest grid."""
    return system.sides[-1]


def sampling(system: System) -> int:
    """Return the operations of sampling one image, two a multiplication, guidance included."""
    halves = 2 if system.guidance.on else 1
    return 2 * halves * _multiplications(system)


def _multiplications(system: System) -> int:
    T, C = tokens(system), width(system)
    F, V = _number(system, "hidden_width"), _number(system, "codes")
    gated = 4 * C * C + 3 * C * F
    plain = 4 * C * C + 2 * C * F
    seen = T * (T + 1) // 2 * 2 * C  # What T positions attend to, one after the other.
    match system.kind:
        case "LlamaGen" | "PAR":
            return _number(system, "blocks") * (T * gated + seen) + T * V * C
        case "NAR":  # One block and one head more.
            return (_number(system, "blocks") + 1) * (T * gated + seen) + 2 * T * V * C
        case "RandAR":
            fed, pairs = _instructed(cosine_blocks(T, system.schedule_steps))
            return _number(system, "blocks") * (fed * gated + pairs * 2 * C) + T * V * C
        case "ARPG":  # Cross blocks have no keys and values of their own; those are shared.
            cross = T * (2 * C * C + 3 * C * F) + seen
            own = _number(system, "self_blocks") * (T * gated + seen) + 2 * T * C * C
            return own + _number(system, "cross_blocks") * cross + T * V * C
        case "LPD":  # Every token as a query, and again when it is known.
            return _number(system, "blocks") * (2 * T * plain + 2 * seen) + T * V * C
        case _:  # VAR: scale by scale, norms steered by the class.
            counts = [side * side for side in system.sides]
            scales = sum(n * end for n, end in zip(counts, accumulate(counts), strict=True))
            return _number(system, "blocks") * (T * plain + 2 * C * scales + 6 * C * C) + T * V * C


def _instructed(blocks: Iterable[int]) -> tuple[int, int]:
    """Return RandAR's positions, and the pairs of one and another that it attends to.

    A call has the block before, each code behind its instruction but for the first's, which the
    cache still has, and a block's instructions; the class token is in the first.
    """
    fed = pairs = sampled = before = 0
    for block in blocks:
        positions = max(1, 2 * before - 1) + block
        fed += positions
        pairs += positions * (1 + 2 * sampled + block)
        sampled, before = sampled + block, block
    return fed, pairs


def _number(system: System, name: str) -> int:
    """Return a number of a description."""
    number = system.description[name]
    assert isinstance(number, int), f"{name} of {system.name} is no number"
    return number
