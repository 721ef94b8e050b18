"""The rows of a batch, and products of them with one thread and with several."""

import torch
import torch.nn.functional as F

from pcb.model.exact import PACK
from pcb.sample.rows import Rows


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
