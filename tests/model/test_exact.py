"""Attention and functions of elements on a CPU, with one thread and with several."""

import pytest
import torch
import torch.nn.functional as F

from pcb.model.exact import attend, elementwise, filled_up


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_same_whatever_rows_are_beside(threads, masked):
    torch.manual_seed(0)
    for queries, positions in ((1, 1), (1, 36), (2, 13), (3, 100), (5, 17), (16, 33)):
        q, k, v = (torch.randn(20, 2, length, 24) for length in (queries, positions, positions))
        mask = torch.rand(queries, positions) > 0.3 if masked else None
        if mask is not None:
            mask[:, 0] = True
        whole = attend(q, k, v, mask)
        for rows in (1, 2, 4, 7, 16):
            assert torch.equal(attend(q[:rows], k[:rows], v[:rows], mask), whole[:rows])
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        expected = expected.transpose(1, 2).flatten(2)
        torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)


def test_functions_of_elements_are_the_same_whatever_elements_are_beside(threads):
    torch.manual_seed(0)
    x = torch.randn(80, 1, 2048)
    whole = elementwise(F.silu, x)
    torch.testing.assert_close(whole, F.silu(x))
    for rows in (4, 40, 44, 64, 72, 76):
        assert torch.equal(elementwise(F.silu, x[:rows]), whole[:rows])


def test_a_scale_is_kept():
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    expected = F.scaled_dot_product_attention(q, k, v, scale=2.0)
    expected = expected.transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend(q, k, v, scale=2.0), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("images", "least"), [(1, 4), (3, 4), (4, 4), (5, 4), (2, 0)])
def test_a_small_batch_is_filled_up_with_its_first_image(images, least):
    part = torch.arange(2 * images).view(images, 2) + 7
    filled = filled_up(part, least)
    assert torch.equal(filled[:images], part)
    assert len(filled) == max(images, least)
    assert (filled[images:] == part[0]).all()
