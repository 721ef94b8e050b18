"""Likelihood: a pass over all tokens gives what the sampler's own steps give, token by token."""

import math

import pytest
import torch

import pcb.metrics.likelihood as module
from pcb.metrics.likelihood import negative_log_likelihood
from pcb.model.sequence import rows_in_order, sequence_of
from pcb.order.allocation import schedule_from_total
from pcb.order.names import CHECKERBOARD, ORDER_NAMES
from pcb.order.schedule import schedule_from_blocks, serial_schedule
from pcb.sample.decoder import forced_logits
from pcb.sample.guidance import OFF
from pcb.sample.pyramid import ALL_ON, PyramidDecoder
from tests.models import tiny_model

IMAGES = 6


def held_out(model, images=IMAGES):
    """Random labels and codes: (B,), and size -> (B, size, size)."""
    torch.manual_seed(11)
    codes = len(model.codebook_VC)
    grids = {size: torch.randint(codes, (images, size, size)) for size in model.sizes}
    return torch.randint(model.num_classes, (images,)), grids


def token_by_token(model, schedule, labels_B, grids):
    """The same by the sampler's cached steps: log p looked up one token after the other."""
    codes_BT = torch.cat([grids[size].flatten(1) for size in model.sizes], dim=1)
    decoder = PyramidDecoder(model, schedule, OFF, ALL_ON)
    logits_BTV = forced_logits(decoder, labels_B, codes_BT)
    order = rows_in_order(model.sizes, model.settings.order).tolist()
    ends = [sum(s * s for s in model.sizes[: k + 1]) for k in range(len(model.sizes))]
    found = [[0.0] * len(model.sizes) for _ in range(len(labels_B))]
    for image in range(len(labels_B)):
        for place, cell in enumerate(order):
            row = [math.exp(x) for x in logits_BTV[image, place].double().tolist()]
            scale = next(k for k, end in enumerate(ends) if cell < end)
            found[image][scale] -= math.log(row[int(codes_BT[image, cell])] / math.fsum(row))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("order", [name for name in ORDER_NAMES if name != CHECKERBOARD])
def test_a_model_of_another_order_is_measured_in_that_order(exact, order):
    model = tiny_model(sizes=(1, 3, 8), seed=3, mixing_layers=2, order=order).eval()
    schedule = schedule_from_blocks(model.sizes, 5)
    labels, grids = held_out(model)
    found = negative_log_likelihood(model, sequence_of(schedule, order), labels, grids)
    slow = token_by_token(model, schedule, labels, grids)
    torch.testing.assert_close(found, slow, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 2, 4), (1, 3, 8), (4,)])
@pytest.mark.parametrize("cut", ["one block", "even", "total", "serial"])
def test_a_pass_gives_what_the_samplers_steps_give(exact, sizes, cut):
    model = tiny_model(sizes=sizes, seed=3).eval()
    schedule = {
        "one block": schedule_from_blocks(sizes, 1),
        "even": schedule_from_blocks(sizes, 4),
        "total": schedule_from_total(sizes, len(sizes) + 7),
        "serial": serial_schedule(sizes),
    }[cut]
    labels, grids = held_out(model)
    found = negative_log_likelihood(model, sequence_of(schedule), labels, grids)
    assert found.dtype == torch.float64 and found.shape == (IMAGES, len(sizes))
    slow = token_by_token(model, schedule, labels, grids)
    torch.testing.assert_close(found, slow, rtol=1e-5, atol=1e-5)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_codes(exact):
    model = tiny_model(seed=0).eval()
    labels, grids = held_out(model)
    found = negative_log_likelihood(model, sequence_of(serial_schedule((1, 2, 4))), labels, grids)
    expected = torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64) * math.log(32)
    torch.testing.assert_close(found, expected.expand(IMAGES, 3))


def test_schedules_differ_and_only_by_what_a_token_sees(exact):
    """A scale's price is its own blocks' matter: what was sampled before it is known in full."""
    model = tiny_model(seed=3).eval()
    labels, grids = held_out(model)
    one, two, both = (
        negative_log_likelihood(
            model, sequence_of(schedule_from_blocks((1, 2, 4), blocks)), labels, grids
        )
        for blocks in ([1, 1, 1], [1, 4, 1], [1, 4, 16])
    )
    torch.testing.assert_close(one[:, 0], both[:, 0])
    torch.testing.assert_close(two[:, 1], both[:, 1])
    assert (one[:, 1] - two[:, 1]).abs().min() > 1e-4
    assert (two[:, 2] - both[:, 2]).abs().min() > 1e-4


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_image_does_not_depend_on_its_batch(exact, batch):
    model = tiny_model(seed=3, head_mlp=True).eval()
    labels, grids = held_out(model, 40)
    sequence = sequence_of(schedule_from_blocks(model.sizes, 2))
    whole = negative_log_likelihood(model, sequence, labels, grids)
    parts = [
        negative_log_likelihood(
            model,
            sequence,
            labels[k : k + batch],
            {size: grid[k : k + batch] for size, grid in grids.items()},
        )
        for k in range(0, 40, batch)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_logits_in_parts_change_nothing(exact, monkeypatch):
    model = tiny_model(seed=3).eval()
    labels, grids = held_out(model)
    sequence = sequence_of(schedule_from_blocks(model.sizes, 2))
    whole = negative_log_likelihood(model, sequence, labels, grids)
    monkeypatch.setattr(module, "PART_LOGITS", 32 * 20)
    assert torch.equal(negative_log_likelihood(model, sequence, labels, grids), whole)
