"""Schedules of guidance over blocks of several sizes."""

import numpy as np
import pytest

from pcb.published.guidance import OFF, Constant, Linear, Ramp

SIZES = (1, 3, 4)


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (Constant(2.5), [2.5] * 8),
        (OFF, [1.0] * 8),
        (Linear(last=9.0, count="before block"), [1, 2, 2, 2, 5, 5, 5, 5]),
        (Linear(last=9.0, count="next"), [2, 3, 3, 3, 6, 6, 6, 6]),
        (Linear(last=9.0, count="with block"), [2, 5, 5, 5, 9, 9, 9, 9]),
        (Linear(last=9.0, count="before token"), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Linear(first=5.0, last=1.0, count="before block"), [5, 4.5, 4.5, 4.5, 3, 3, 3, 3]),
        (Ramp(1.5), [1, 1.75, 1.75, 1.75, 2.5, 2.5, 2.5, 2.5]),
    ],
)
def test_every_token_has_a_scale(guidance, expected):
    assert guidance.scales(SIZES).tolist() == expected
    assert guidance.scales(SIZES).dtype == np.float64
    assert guidance.on == (guidance is not OFF)


@pytest.mark.parametrize(
    "guidance",
    [
        Constant(1.0),
        Linear(last=1.0, count="next"),
        Ramp(0.0),
    ],
)
def test_what_is_off_needs_no_logits_without_a_class(guidance):
    assert not guidance.on
    assert (guidance.scales(SIZES) == 1).all()
