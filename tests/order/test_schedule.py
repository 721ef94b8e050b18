"""Scales, blocks and steps against the method's table, and the exact allocation of steps."""

import pytest

from pcb.order.allocation import schedule_from_total
from pcb.order.schedule import (
    Schedule,
    block_kind,
    blocks_of,
    exact_blocks,
    num_tokens,
    scale_sizes,
    schedule_from_blocks,
    serial_schedule,
    training_block_sizes,
)

KS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
# method section 2: ratio, scales, tokens, steps at each K of KS.
TABLE = [
    (2 ** (1 / 3), "1 2 3 4 5 6 8 10 13 16", 680, (10, 22, 35, 40, 54, 63, 74, 107, 139)),
    (2**0.5, "1 2 3 4 6 8 11 16", 507, (8, 17, 27, 31, 44, 49, 56, 81, 98)),
    (1.5, "1 2 3 5 7 11 16", 465, (7, 17, 24, 29, 37, 42, 49, 66, 90)),
    (2, "1 2 4 8 16", 341, (5, 9, 17, 17, 23, 27, 29, 47, 53)),
    (2.25, "1 3 7 16", 315, (4, 9, 12, 15, 22, 24, 27, 36, 43)),
    (3, "1 2 5 16", 286, (4, 8, 13, 14, 16, 19, 22, 31, 46)),
    (4, "1 4 16", 273, (3, 5, 9, 9, 13, 16, 17, 30, 33)),
    (16, "1 16", 257, (2, 3, 5, 5, 7, 8, 9, 14, 17)),
    (None, "16", 256, (1, 2, 4, 4, 6, 7, 8, 13, 16)),
]


@pytest.mark.parametrize(("ratio", "scales", "tokens", "steps"), TABLE)
def test_published_scales_and_steps(ratio, scales, tokens, steps):
    sizes = scale_sizes(16, ratio)
    assert " ".join(map(str, sizes)) == scales
    assert num_tokens(sizes) == tokens
    assert tuple(schedule_from_blocks(sizes, k).steps for k in KS) == steps


@pytest.mark.parametrize("ratio", [2.5, 8])
def test_sizes_that_round_to_zero_are_dropped(ratio):
    sizes = scale_sizes(16, ratio)
    assert sizes[0] == 1
    assert sizes[-1] == 16
    assert schedule_from_blocks(sizes, 4).tokens == num_tokens(sizes)


@pytest.mark.parametrize("ratio", [1.05, 1.3, 2, 3.7, 100])
@pytest.mark.parametrize("final", [1, 7, 8, 16, 64])
@pytest.mark.parametrize("min_size", [1, 2, 5])
def test_sizes_ascend_from_min_to_final(ratio, final, min_size):
    if min_size > final:
        return
    sizes = scale_sizes(final, ratio, min_size)
    assert sizes[0] == min_size
    assert sizes[-1] == final
    assert list(sizes) == sorted(set(sizes))


@pytest.mark.parametrize(("ratio", "min_size"), [(1, 1), (0.5, 1), (2, 0), (2, 17)])
def test_impossible_scales_are_refused(ratio, min_size):
    with pytest.raises(ValueError, match="ratio|min size"):
        scale_sizes(16, ratio, min_size)


@pytest.mark.parametrize("tokens", [1, 4, 9, 25, 64, 256])
@pytest.mark.parametrize("k", KS)
def test_blocks_follow_the_papers_rule(tokens, k):
    blocks = blocks_of(tokens, k)
    size = max(1, tokens // k)
    assert sum(blocks) == tokens
    assert len(blocks) == -(-tokens // size)
    assert all(block == size for block in blocks[:-1])
    assert blocks[-1] <= size


def test_headline_schedules_agree_with_k():
    for ratio, k in ((2, 4), (4, 8)):
        sizes = scale_sizes(16, ratio)
        assert schedule_from_total(sizes, 17) == schedule_from_blocks(sizes, k)


def test_three_x_reaches_seventeen_steps_only_by_total():
    sizes = scale_sizes(16, 3)
    assert 17 not in {schedule_from_blocks(sizes, k).steps for k in range(1, 257)}
    assert schedule_from_total(sizes, 17).steps == 17


def test_a_list_of_blocks_is_hit_exactly():
    assert schedule_from_blocks((1, 2, 8), (1, 3, 5)).blocks_per_scale == (1, 3, 5)


def test_impossible_blocks_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        schedule_from_blocks((1, 2), 0)
    with pytest.raises(ValueError, match="2 entries for 3 scales"):
        schedule_from_blocks((1, 2, 4), (1, 2))
    with pytest.raises(ValueError, match="cannot be cut"):
        exact_blocks(2, 5)
    with pytest.raises(ValueError, match="do not tile"):
        Schedule(sizes=(2,), blocks=((1, 2),))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 16])
def test_training_draws_from_2s_minus_1_block_sizes(size):
    values = training_block_sizes(size)
    assert len(values) == 2 * size - 1
    assert set(values) == set(range(1, size + 1)) | {size * size // x for x in range(1, size)}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 16])
def test_exact_blocks_are_trained_wherever_a_trained_size_gives_their_number(size):
    tokens = size * size
    trained = {n for b in training_block_sizes(size) for n in (tokens // b, -(-tokens // b))}
    for count in range(1, tokens + 1):
        blocks = exact_blocks(size, count)
        assert (len(blocks), sum(blocks)) == (count, tokens)
        assert (block_kind(size, blocks) != "untrained") == (count in trained)


@pytest.mark.parametrize(
    ("size", "blocks", "kind"),
    [
        (8, (64,), "aligned"),
        (8, (16,) * 4, "aligned"),
        (8, (1,) * 64, "aligned"),
        (3, (1,) * 9, "aligned"),
        (8, (11, 11, 11, 11, 10, 10), "untrained"),
        (8, (5,) * 11 + (9,), "trained"),
        (8, (5,) * 12 + (4,), "trained"),
        (8, (11, 11, 11, 11, 20), "untrained"),
        (6, (9,) * 4, "trained"),
        (8, (10, 10, 10, 10, 12, 12), "untrained"),
    ],
)
def test_what_a_model_knows_of_blocks(size, blocks, kind):
    assert block_kind(size, blocks) == kind


def test_serial_is_one_token_per_block():
    assert serial_schedule((1, 3)).blocks == ((1,), (1,) * 9)
