"""The sampler: cached decoding equals one full pass; an image depends on its own numbers alone."""

import numpy as np
import pytest
import torch

from pcb.model.inputs import teacher_forced
from pcb.model.layers import AttentionContext
from pcb.model.sequence import rows_in_order, sequence_of
from pcb.order.allocation import schedule_from_total
from pcb.order.names import ORDER_NAMES
from pcb.order.schedule import schedule_from_blocks
from pcb.sample.decoder import forced_logits
from pcb.sample.filter import EVERYTHING, GREEDY
from pcb.sample.guidance import OFF, Guidance
from pcb.sample.pyramid import ALL_ON, PyramidDecoder, sampler_for
from pcb.sample.uniforms import uniforms
from tests.models import tiny_model

pytestmark = pytest.mark.usefixtures("exact")


def codes_and_logits(block):
    return block.codes_Bn, block.logits_BnV


def sampled(model, schedule, indices, *, guidance=OFF, filter=EVERYTHING, speed=ALL_ON):
    """Codes of some images; codes and logits of every step."""
    sampler = sampler_for(
        model.eval(),
        schedule,
        guidance=guidance,
        filter=filter,
        speed=speed,
        measure=codes_and_logits,
    )
    indices = np.asarray(indices, dtype=np.int64)
    numbers = torch.from_numpy(uniforms(7, indices, model.sizes))
    labels = torch.from_numpy(indices % model.num_classes)
    steps = []

    def observe(step, measured):
        assert step == len(steps)
        steps.append([part.clone() for part in measured])

    codes = sampler.sample(labels, numbers, observe=observe)
    return codes, steps


@torch.no_grad()
def full_pass(model, schedule, codes_BT, labels_B):
    """Logits of all tokens from one teacher-forced pass, in the order of the sequence."""
    sequence = sequence_of(schedule, model.settings.order)
    parts = codes_BT.split([s * s for s in model.sizes], dim=1)
    grids = {s: part.view(-1, s, s) for s, part in zip(model.sizes, parts, strict=True)}
    inputs, _ = teacher_forced(sequence, labels_B, grids, model.codebook_VC)
    return model.logits(model(inputs, AttentionContext(mask=sequence.mask_LL())))


@pytest.mark.parametrize("sizes", [(1, 2, 4, 8), (1, 3, 8), (4,)])
@pytest.mark.parametrize("weight", [0.0, 1.5])
@pytest.mark.parametrize("start_step", [0, 3])
def test_cached_decoding_equals_one_full_pass(sizes, weight, start_step):
    model = tiny_model(sizes=sizes, seed=2, mixing_layers=2)
    schedule = schedule_from_blocks(sizes, 4)
    guidance = Guidance(weight=weight, start_step=start_step)
    codes, steps = sampled(model, schedule, range(3), guidance=guidance)
    stepwise = torch.cat([logits for _, logits in steps], dim=1)
    labels = torch.arange(3) % model.num_classes
    expected = full_pass(model, schedule, codes, labels)
    unconditional = full_pass(model, schedule, codes, torch.full((3,), model.num_classes))
    first = sum(found.shape[1] for found, _ in steps[: start_step if weight else None])
    guided = guidance.mix(expected, unconditional)
    expected = torch.cat([expected[:, :first], guided[:, first:]], dim=1)
    torch.testing.assert_close(stepwise, expected, atol=2e-5, rtol=0)
    decoder = PyramidDecoder(model, schedule, guidance, ALL_ON)
    assert torch.equal(forced_logits(decoder, labels, codes), stepwise)


@pytest.mark.parametrize("order", ORDER_NAMES)
def test_a_model_of_another_order_is_decoded_in_that_order(order):
    model = tiny_model(sizes=(1, 3, 8), seed=2, mixing_layers=2, order=order)
    schedule = schedule_from_blocks(model.sizes, 5)
    codes, steps = sampled(model, schedule, range(3))
    stepwise = torch.cat([logits for _, logits in steps], dim=1)
    labels = torch.arange(3) % model.num_classes
    torch.testing.assert_close(
        stepwise, full_pass(model, schedule, codes, labels), atol=2e-5, rtol=0
    )
    in_order = torch.cat([found for found, _ in steps], dim=1)
    assert torch.equal(codes[:, rows_in_order(model.sizes, order)], in_order)


@pytest.mark.parametrize("cfg", [0.0, 2.0])
def test_an_image_is_the_same_in_any_batch(cfg):
    model = tiny_model(sizes=(1, 2, 4, 8), seed=5, codes=256)
    schedule = schedule_from_total(model.sizes, 13)
    guidance = Guidance(weight=cfg, start_step=4)
    whole, _ = sampled(model, schedule, range(48), guidance=guidance)
    for batch in (1, 3, 16):
        parts = [
            sampled(model, schedule, range(start, min(start + batch, 48)), guidance=guidance)[0]
            for start in range(0, 48, batch)
        ]
        assert torch.equal(torch.cat(parts), whole), f"batches of {batch}"


def test_codes_are_row_major_and_follow_the_likeliest_at_temperature_zero():
    model = tiny_model(sizes=(1, 3), seed=1)
    schedule = schedule_from_blocks(model.sizes, 1)
    codes, steps = sampled(model, schedule, [0, 1], filter=GREEDY)
    order = rows_in_order(model.sizes)
    likeliest = torch.cat([logits.argmax(-1) for _, logits in steps], dim=1)
    assert torch.equal(codes[:, order], likeliest)


def test_observer_sees_every_step_of_the_schedule():
    model = tiny_model(seed=1)
    schedule = schedule_from_total(model.sizes, 7)
    _, steps = sampled(model, schedule, range(20))
    sizes = [size for blocks in schedule.blocks for size in blocks]
    assert [tuple(codes.shape) for codes, _ in steps] == [(20, n) for n in sizes]


def test_labels_matter_and_unconditional_models_sample_too():
    model = tiny_model(seed=4)
    schedule = schedule_from_blocks(model.sizes, 2)
    numbers = torch.from_numpy(uniforms(0, np.arange(16), model.sizes))
    sampler = sampler_for(model.eval(), schedule)
    one = sampler.sample(torch.zeros(16, dtype=torch.int64), numbers)
    other = sampler.sample(torch.full((16,), model.num_classes), numbers)
    assert not torch.equal(one, other)
