"""Products and attention on a CPU, with one thread and with several."""

import pytest
import torch
import torch.nn.functional as F

from pcb.sample.exact import PACK, attend, elementwise
from pcb.sample.rows import Rows


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    torch.set_num_threads(request.param)
    return request.param


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
    torch.testing.assert_close(attend(q, k, v, scale=2.0), expected, atol=1e-5, rtol=0)


def test_products_of_the_rows_that_calls_have_are_alike(threads):
    torch.manual_seed(0)
    weights = torch.randn(96, 64)
    x = torch.randn(400, 64)
    whole = F.linear(x, weights)
    for images in (1, 2, 3, 5, 9, 13):
        for guided in (False, True):
            rows = Rows(images, guided=guided, null_class=9, device=torch.device("cpu"))
            for tokens in (1, 2, 3, 5, 7):
                count = rows.count(tokens) * tokens
                assert torch.equal(F.linear(x[:count], weights), whole[:count])


def test_rows_are_the_images_then_the_same_without_class_then_copies_of_the_first():
    rows = Rows(3, guided=True, null_class=9, device=torch.device("cpu"))
    rows.begin(torch.tensor([4, 5, 6]))
    assert rows.labels_R.tolist() == [4, 5, 6, 9, 9, 9] + [4] * 10
    assert rows.image_R.tolist() == [0, 1, 2, 0, 1, 2] + [0] * 10
    assert (rows.most, rows.count(16), rows.count(3)) == (16, 8, 8)
    assert rows.count(1000) % PACK == 0
    rows = Rows(3, guided=False, null_class=9, device=torch.device("cpu"))
    rows.begin(torch.tensor([4, 5, 6]))
    assert rows.labels_R.tolist() == [4, 5, 6] + [4] * 13


def test_guidance_mixes_the_images_own_rows():
    rows = Rows(2, guided=True, null_class=9, device=torch.device("cpu"))
    logits = torch.arange(16.0)[:, None, None].expand(-1, 3, 5)
    mixed = rows.guide(logits, torch.tensor([0.0, 1.0, 3.0]))
    assert mixed[:, :, 0].tolist() == [[2, 0, -4], [3, 1, -3]]
    alone = Rows(2, guided=False, null_class=9, device=torch.device("cpu"))
    assert alone.guide(logits, torch.zeros(3))[:, 0, 0].tolist() == [0, 1]
