"""Guided logits: every token has its own scale."""

import torch

from pcb.sample.guidance import mix


def test_a_scale_of_one_leaves_the_class_and_one_of_zero_none():
    conditional, unconditional = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    mixed = mix(conditional, unconditional, torch.tensor([0.0, 1.0, 3.0]))
    assert torch.equal(mixed[:, 0], unconditional[:, 0])
    torch.testing.assert_close(mixed[:, 1], conditional[:, 1])
    expected = 3 * conditional[:, 2] - 2 * unconditional[:, 2]
    torch.testing.assert_close(mixed[:, 2], expected)
