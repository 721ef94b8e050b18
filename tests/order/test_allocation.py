"""Exact totals: shared out by blocks that training has seen, aligned where they can be."""

import itertools
import math

import pytest

from pcb.order.allocation import (
    UNALIGNED,
    allocate_steps,
    allocation_of,
    even_share,
    kinds_of,
    nearest_trained_totals,
    schedule_from_total,
    trained_counts,
    unaligned_note,
)
from pcb.order.schedule import num_tokens, scale_sizes, schedule_from_blocks


def brute_force_share(sizes, total):
    """The most even split: least sum of squares, and among those the largest for fine scales."""
    ranges = [range(1, size * size + 1) for size in sizes]
    splits = [split for split in itertools.product(*ranges) if sum(split) == total]
    return min(splits, key=lambda split: (sum(n * n for n in split), split))


@pytest.mark.parametrize("sizes", [(1, 2, 4), (1, 3), (2, 3), (1, 2, 3), (3,)])
def test_even_shares_are_as_even_as_possible(sizes):
    for total in range(len(sizes), num_tokens(sizes) + 1):
        assert even_share(sizes, total) == brute_force_share(sizes, total)


def cheapest(sizes, total):
    """The choice of trained numbers of blocks that the rule asks for, found by trying all."""
    shares = even_share(sizes, total)

    def cost(counts):
        kinds = kinds_of(schedule_from_blocks(sizes, counts))
        power = [size & (size - 1) == 0 for size in sizes]
        unaligned = sum(p and k != "aligned" for p, k in zip(power, kinds, strict=True))
        uneven = sum(math.log(c / s) ** 2 for c, s in zip(counts, shares, strict=True))
        return round(uneven + UNALIGNED * unaligned, 6), counts

    every = itertools.product(*map(trained_counts, sizes))
    return min((c for c in every if sum(c) == total), key=cost, default=None)


@pytest.mark.parametrize("sizes", [(1, 2, 4), (1, 2, 4, 8), (1, 3, 8), (1, 2, 8), (1, 5), (8,)])
def test_allocations_are_the_cheapest(sizes):
    for total in range(len(sizes), 40):
        if total > num_tokens(sizes):
            break
        best = cheapest(sizes, total)
        found = allocate_steps(sizes, total)
        assert sum(found) == total
        if best is not None:
            assert found == best
        else:
            assert allocation_of(schedule_from_total(sizes, total)) == "untrained"


@pytest.mark.parametrize(
    ("final", "ratio", "total", "counts"),
    [
        # Those that held-out likelihood prefers to even blocks of sizes that no model has seen.
        (8, 2, 13, (1, 4, 4, 4)),
        (8, 2, 17, (1, 4, 4, 8)),
        (8, 4, 17, (1, 4, 12)),
        (16, 2, 17, (1, 4, 4, 4, 4)),
        (16, 4, 17, (1, 8, 8)),
    ],
)
def test_known_allocations(final, ratio, total, counts):
    schedule = schedule_from_total(scale_sizes(final, ratio), total)
    assert schedule.blocks_per_scale == counts


def test_headline_schedules_agree_with_k():
    for ratio, k in ((2, 4), (4, 8)):
        sizes = scale_sizes(16, ratio)
        assert schedule_from_total(sizes, 17) == schedule_from_blocks(sizes, k)


def test_totals_that_no_trained_blocks_hit_say_which_are_nearest():
    sizes = (1, 2, 8)
    assert allocation_of(schedule_from_total(sizes, 29)) == "untrained"
    below, above = nearest_trained_totals(sizes, 29)
    assert below < 29 < above
    for total in (below, above):
        assert allocation_of(schedule_from_total(sizes, total)) != "untrained"
    for total in range(below + 1, above):
        assert allocation_of(schedule_from_total(sizes, total)) == "untrained"


@pytest.mark.parametrize(
    ("ratio", "total", "nearest"), [(4, 17, "13 and 19"), (3, 17, "14 and 18"), (2, 10, "9 and 11")]
)
def test_blocks_that_are_not_aligned_say_which_totals_have_aligned_ones(ratio, total, nearest):
    sizes = scale_sizes(8, ratio)
    note = unaligned_note(schedule_from_total(sizes, total))
    assert note is not None and note.endswith(f"the nearest totals that are: {nearest} steps")
    below, above = map(int, nearest.split(" and "))
    for steps in range(below, above + 1):
        kinds = kinds_of(schedule_from_total(sizes, steps))
        aligned = all(kind == "aligned" for n, kind in zip(sizes, kinds, strict=True) if n != 3)
        assert aligned == (steps in (below, above))


def test_what_is_aligned_or_untrained_has_no_such_note():
    assert unaligned_note(schedule_from_total((1, 2, 4, 8), 17)) is None
    assert unaligned_note(schedule_from_total((1, 2, 8), 29)) is None


@pytest.mark.parametrize("ratio", [2 ** (1 / 3), 2**0.5, 1.5, 2, 2.25, 3, 4, None])
@pytest.mark.parametrize("total", [13, 17, 29])
def test_every_ratio_hits_the_totals_of_the_paper_exactly(ratio, total):
    schedule = schedule_from_total(scale_sizes(16, ratio), total)
    assert schedule.steps == total


@pytest.mark.parametrize("total", [0, 3, 86])
def test_impossible_totals_are_refused(total):
    with pytest.raises(ValueError, match="impossible for scales 1 2 4 8"):
        schedule_from_total((1, 2, 4, 8), total)
