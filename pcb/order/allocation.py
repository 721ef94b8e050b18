"""The allocation of a total number of steps to scales (method section 2). Pure Python.

An exact total can be cut in many ways, and not all serve a model alike: training sees the block
sizes {1..s} and s*s // x alone, and only equal blocks, a power of two of them on a grid of a power
of two, keep every prefix of the order balanced. Blocks that are neither cost likelihood.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from pcb.order.schedule import (
    Schedule,
    block_kind,
    exact_blocks,
    is_power_of_two,
    num_tokens,
    schedule_from_blocks,
    training_block_sizes,
)

Cost = tuple[int, float, tuple[int, ...]]
"""Untrained scales, unevenness, numbers of blocks: compared one after the other."""
UNALIGNED = 1.0
"""What a scale that could be aligned and is not adds to unevenness: as much as a number e
times too large."""


def schedule_from_total(sizes: Sequence[int], total: int) -> Schedule:
    """Schedule that takes exactly `total` steps, shared out by `allocate_steps`."""
    return schedule_from_blocks(sizes, allocate_steps(tuple(sizes), total))


@lru_cache(maxsize=512)
def allocate_steps(sizes: tuple[int, ...], total: int) -> tuple[int, ...]:
    """Return the number of blocks of each scale, coarse to fine, that add up to `total`.

    Of all numbers whose blocks training has seen, the nearest to an even share (`even_share`), by
    the squared logarithms of the quotients and `UNALIGNED`; of equals the one that gives finer
    scales more. If no trained numbers add up to it, the finest scale takes what is left.

    Raises ValueError if `total` is below the number of scales or above the number of tokens.
    """
    if not len(sizes) <= total <= num_tokens(sizes):
        raise ValueError(
            f"{total} steps are impossible for scales {' '.join(map(str, sizes))}: "
            f"from {len(sizes)} (one block per scale) to {num_tokens(sizes)} (one per token)"
        )
    counts = [trained_counts(size) for size in sizes]
    best = _best(sizes, counts, total)
    if best is None:
        counts[-1] = tuple(range(1, sizes[-1] ** 2 + 1))
        best = _best(sizes, counts, total)
    if best is None:
        return even_share(sizes, total)
    return best


def even_share(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """Spread steps over the scales as evenly as their tokens allow, the surplus to finer ones."""
    counts = [0] * len(sizes)
    left, open_scales = total, len(sizes)
    for k in sorted(range(len(sizes)), key=lambda k: sizes[k]):
        # Coarse scales fill up first; the floor of the even share leaves the surplus to the finer.
        counts[k] = min(sizes[k] ** 2, left // open_scales)
        left -= counts[k]
        open_scales -= 1
    return tuple(counts)


@lru_cache(maxsize=64)
def trained_counts(size: int) -> tuple[int, ...]:
    """Return the numbers of blocks that an s x s scale can be cut into by trained sizes."""
    tokens, blocks = size * size, training_block_sizes(size)
    return tuple(sorted({tokens // n for n in blocks} | {-(-tokens // n) for n in blocks}))


def kinds_of(schedule: Schedule) -> tuple[str, ...]:
    """Return what a model knows of the blocks of each scale (`block_kind`)."""
    return tuple(map(block_kind, schedule.sizes, schedule.blocks))


def allocation_of(schedule: Schedule) -> str:
    """Return the weakest kind of a schedule's scales: aligned, trained or untrained."""
    return max(kinds_of(schedule), key=("aligned", "trained", "untrained").index)


def untrained_warning(schedule: Schedule) -> str | None:
    """Return one line about blocks of sizes that training never draws, None if there are none."""
    sizes = [
        f"{size}x{size}"
        for size, kind in zip(schedule.sizes, kinds_of(schedule), strict=True)
        if kind == "untrained"
    ]
    if not sizes:
        return None
    totals = nearest_trained_totals(schedule.sizes, schedule.steps)
    return (
        f"scale {', '.join(sizes)}: blocks of sizes that training never draws, which costs "
        f"likelihood; the nearest totals without them: {' and '.join(map(str, totals))} steps"
    )


def unaligned_note(schedule: Schedule) -> str | None:
    """Return one line about scales whose blocks could be aligned with the order and are not.

    None if there are none, or if some blocks are untrained: that is said by `untrained_warning`.
    """
    sizes = _unaligned(schedule)
    if not sizes or allocation_of(schedule) == "untrained":
        return None
    totals = nearest_aligned_totals(schedule.sizes, schedule.steps)
    return (
        f"scale {', '.join(f'{size}x{size}' for size in sizes)}: blocks not aligned with the "
        f"order; the nearest totals that are: {' and '.join(map(str, totals))} steps"
    )


def nearest_aligned_totals(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """Return the nearest totals, below and above, whose blocks are aligned wherever they can be."""
    below, above = range(total - 1, len(sizes) - 1, -1), range(total + 1, num_tokens(sizes) + 1)
    found = (
        next((n for n in totals if not _unaligned(schedule_from_total(sizes, n))), None)
        for totals in (below, above)
    )
    return tuple(n for n in found if n is not None)


def _unaligned(schedule: Schedule) -> list[int]:
    """Return the scales whose blocks are not aligned, of those whose grids are a power of two."""
    kinds = zip(schedule.sizes, kinds_of(schedule), strict=True)
    return [size for size, kind in kinds if kind != "aligned" and is_power_of_two(size)]


def nearest_trained_totals(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """Return the nearest totals, below and above, that trained blocks can hit."""
    reachable = {0}
    for size in sizes:
        reachable = {done + count for done in reachable for count in trained_counts(size)}
    below = [reached for reached in reachable if reached <= total]
    above = [reached for reached in reachable if reached >= total]
    found = [max(below)] if below else []
    return tuple(dict.fromkeys(found + ([min(above)] if above else [])))


def _best(
    sizes: Sequence[int], counts: Sequence[Iterable[int]], total: int
) -> tuple[int, ...] | None:
    """Return the cheapest choice of a count for each scale that adds up, or None."""
    shares = even_share(sizes, total)
    states: dict[int, Cost] = {0: (0, 0.0, ())}
    for size, choices, share in zip(sizes, counts, shares, strict=True):
        prices = {count: _price(size, count, share) for count in choices}
        reached: dict[int, Cost] = {}
        for done, cost in states.items():
            for count, (untrained, uneven) in prices.items():
                steps = done + count
                if steps > total:
                    continue
                # Rounded, so that equal choices are equal in whatever order they are added up.
                new = (cost[0] + untrained, round(cost[1] + uneven, 9), (*cost[2], count))
                if steps not in reached or new < reached[steps]:
                    reached[steps] = new
        states = reached
    return states[total][2] if total in states else None


def _price(size: int, count: int, share: int) -> tuple[int, float]:
    """Return what a number of blocks costs a scale, in the terms of `Cost`."""
    kind = block_kind(size, exact_blocks(size, count))
    unaligned = UNALIGNED if kind != "aligned" and is_power_of_two(size) else 0.0
    return int(kind == "untrained"), math.log(count / share) ** 2 + unaligned
