"""Sequences against a slow double loop: rows, tokens one block earlier, the block-causal mask."""

import numpy as np
import pytest

from pcb.model.sequence import NO_PREVIOUS, sequence_of
from pcb.order.allocation import schedule_from_total
from pcb.order.names import ORDER_NAMES
from pcb.order.orders import ranks_of
from pcb.order.schedule import Schedule, schedule_from_blocks

SCHEDULES = [
    schedule_from_blocks((1, 2, 4, 8), 4),
    schedule_from_blocks((1, 3, 8), 5),
    schedule_from_total((1, 2, 8), 13),
    schedule_from_blocks((4,), 3),
    # A remainder that joined the block before it.
    Schedule(sizes=(1, 3), blocks=((1,), (2, 2, 5))),
    Schedule(sizes=(1, 3), blocks=((1,), (9,))),
]


def slow_sequence(schedule, order="checkerboard"):
    """(row, position one block earlier, block) of every position, one at a time."""
    positions = [(schedule.tokens, NO_PREVIOUS, 0)]
    first_row, step = 0, 0
    for size, blocks in zip(schedule.sizes, schedule.blocks, strict=True):
        ranks = ranks_of(order, size).ravel().tolist()
        cells = sorted(range(size * size), key=ranks.__getitem__)
        previous = []
        taken = 0
        for block in blocks:
            step += 1
            current = []
            for j in range(block):
                before = previous[j] if j < len(previous) else NO_PREVIOUS
                current.append(len(positions))
                positions.append((first_row + cells[taken + j], before, step))
            taken += block
            previous = current
        first_row += size * size
    return positions


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("order", ORDER_NAMES)
def test_equals_the_slow_definition(schedule, order):
    sequence = sequence_of(schedule, order)
    rows, before, blocks = zip(*slow_sequence(schedule, order), strict=True)
    assert sequence.rows_L.tolist() == list(rows)
    assert sequence.previous_L.tolist() == list(before)
    assert sequence.blocks_L.tolist() == list(blocks)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_one_block_earlier_is_sampled_already(schedule):
    sequence = sequence_of(schedule)
    has = sequence.previous_L != NO_PREVIOUS
    assert (sequence.blocks_L[sequence.previous_L[has]] == sequence.blocks_L[has] - 1).all()
    rows = sequence.previous_rows_L
    assert (rows[has] == sequence.rows_L[sequence.previous_L[has]]).all()
    assert rows[0] == sequence.class_row, "the class token stands in no scale"
    assert (rows[1:][~has[1:]] == sequence.null_row).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_mask_is_block_causal(schedule):
    sequence = sequence_of(schedule)
    blocks = sequence.blocks_L.tolist()
    slow = np.array([[seen <= own for seen in blocks] for own in blocks])
    np.testing.assert_array_equal(sequence.mask_LL().numpy(), slow)
    assert slow[:, 0].all(), "the class token is seen by all"
    assert not slow[0, 1:].any(), "and sees nothing else"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_and_scales_tile_the_sequence(schedule):
    sequence = sequence_of(schedule)
    assert len(sequence.steps) == schedule.steps
    covered = [p for first, last in sequence.steps for p in range(first, last)]
    assert covered == list(range(1, schedule.tokens + 1))
    covered = [t for first, last in sequence.tokens_of_scales for t in range(first, last)]
    assert covered == list(range(schedule.tokens))
