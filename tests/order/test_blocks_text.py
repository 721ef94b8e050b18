"""Blocks as text, and as a setting that gives sizes."""

import pytest

from pcb.config import SamplingConfig
from pcb.order.allocation import allocation_of
from pcb.order.blocks_text import blocks_text, read_blocks, sizes_text
from pcb.order.schedule import schedule_from_blocks

EVEN = (3, 3, 3, 3, 2, 2), (11, 11, 11, 11, 10, 10)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("4", 4),
        ("1,4,4,8", (1, 4, 4, 8)),
        ("1,4,4x3+2x2,4x11+2x10", (1, 4, *EVEN)),
        ("1x64", ((64,),)),
        ("4x16", ((16, 16, 16, 16),)),
    ],
)
def test_text_and_blocks_are_the_same(text, blocks):
    assert read_blocks(text) == blocks
    assert blocks_text(blocks) == text


@pytest.mark.parametrize("text", ["", "4,", "x", "4x", "4x11+", "4x11x2", "4+2", "four"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError):
        read_blocks(text)


def test_sizes_are_counted_where_neighbors_are_equal():
    assert sizes_text((11, 11, 10, 11), ", ", " x ") == "2 x 11, 1 x 10, 1 x 11"


def test_a_config_may_give_the_sizes_of_blocks():
    config = SamplingConfig(blocks=(1, 4, *EVEN))
    schedule = config.schedule((1, 2, 4, 8))
    assert schedule.blocks == ((1,), (1, 1, 1, 1), *EVEN)
    assert schedule.steps == 17
    assert allocation_of(schedule) == "untrained"
    assert config.name == "k1-4-4x3.2x2-4x11.2x10"


def test_sizes_that_do_not_tile_a_scale_are_refused():
    with pytest.raises(ValueError, match=r"blocks \[11, 11\] do not tile the 64 tokens of scale 8"):
        schedule_from_blocks((1, 8), (1, (11, 11)))
