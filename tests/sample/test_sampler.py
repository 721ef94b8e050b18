"""The sampler: cached decoding equals one full pass; an image depends on its own numbers alone."""

import numpy as np
import pytest
import torch

from pcb.model.layers import Attending
from pcb.model.sequence import rows_in_order, sequence_of
from pcb.model.transformer import Inputs
from pcb.order.allocation import schedule_from_total
from pcb.order.schedule import schedule_from_blocks
from pcb.sample.draw import uniforms
from pcb.sample.guidance import Guidance
from pcb.sample.sampler import Sampler
from pcb.tokenizer.pyramid import conditioning
from tests.models import tiny_model


def draw(model, schedule, indices, *, guidance=None, temperature=1.0, observe=None):
    torch.set_num_threads(1)
    sampler = Sampler(model.eval(), schedule, guidance=guidance, temperature=temperature)
    indices = np.asarray(indices, dtype=np.int64)
    numbers = torch.from_numpy(uniforms(7, indices, model.sizes))
    labels = torch.from_numpy(indices % model.num_classes)
    return sampler.draw(labels, numbers, observe)


@torch.no_grad()
def full_pass(model, schedule, codes_BT, labels_B):
    """Logits of all tokens from one teacher-forced pass, in the order of the sequence."""
    sequence = sequence_of(schedule)
    order = torch.from_numpy(rows_in_order(model.sizes))
    parts = codes_BT.split([s * s for s in model.sizes], dim=1)
    grids = {s: part.view(-1, s, s) for s, part in zip(model.sizes, parts, strict=True)}
    sources = conditioning(grids, model.codebook_VC, model.sizes)
    source = torch.cat([sources[s].flatten(2) for s in model.sizes], 2).transpose(1, 2)[:, order]
    before = (sequence.before_L[1:] - 1).clamp(min=0)
    inputs = Inputs(
        labels_B=labels_B,
        source_BTC=source,
        before_BTC=model.codebook_VC[codes_BT[:, order][:, before]],
        rows_T=order,
        before_rows_T=sequence.before_rows_L[1:],
        with_class=True,
    )
    return model(inputs, Attending(mask=sequence.mask_LL()))


@pytest.mark.parametrize("sizes", [(1, 2, 4, 8), (1, 3, 8), (4,)])
@pytest.mark.parametrize("weight", [0.0, 1.5])
@pytest.mark.parametrize("start_step", [0, 3])
def test_cached_decoding_equals_one_full_pass(sizes, weight, start_step):
    model = tiny_model(sizes=sizes, seed=2, mixing_layers=2)
    schedule = schedule_from_blocks(sizes, 4)
    guidance = Guidance(weight=weight, start_step=start_step)
    seen = []
    codes = draw(model, schedule, range(3), guidance=guidance, observe=seen.append)
    stepwise = torch.cat([step.logits_BnV for step in seen], dim=1)
    labels = torch.arange(3) % model.num_classes
    expected = full_pass(model, schedule, codes, labels)
    unconditional = full_pass(model, schedule, codes, torch.full((3,), model.num_classes))
    first = sum(len(step.codes_Bn[0]) for step in seen if not guidance.active(step.step))
    guided = guidance.mix(expected, unconditional)
    expected = torch.cat([expected[:, :first], guided[:, first:]], dim=1)
    torch.testing.assert_close(stepwise, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("cfg", [0.0, 2.0])
def test_an_image_is_the_same_in_any_batch(cfg):
    model = tiny_model(sizes=(1, 2, 4, 8), seed=5, codes=256)
    schedule = schedule_from_total(model.sizes, 13)
    guidance = Guidance(weight=cfg, start_step=4)
    whole = draw(model, schedule, range(48), guidance=guidance)
    for batch in (1, 3, 16):
        parts = [
            draw(model, schedule, range(start, min(start + batch, 48)), guidance=guidance)
            for start in range(0, 48, batch)
        ]
        assert torch.equal(torch.cat(parts), whole), f"batches of {batch}"


def test_codes_are_row_major_and_follow_the_likeliest_at_temperature_zero():
    model = tiny_model(sizes=(1, 3), seed=1)
    schedule = schedule_from_blocks(model.sizes, 1)
    seen = []
    codes = draw(model, schedule, [0, 1], temperature=0.0, observe=seen.append)
    order = rows_in_order(model.sizes)
    drawn = torch.cat([step.logits_BnV.argmax(-1) for step in seen], dim=1)
    assert torch.equal(codes[:, order], drawn)


def test_observer_sees_every_step_of_the_schedule():
    model = tiny_model(seed=1)
    schedule = schedule_from_total(model.sizes, 7)
    seen = []
    draw(model, schedule, range(20), observe=seen.append)
    assert [step.step for step in seen] == list(range(7))
    sizes = [size for blocks in schedule.blocks for size in blocks]
    assert [tuple(step.codes_Bn.shape) for step in seen] == [(20, n) for n in sizes]


def test_labels_matter_and_unconditional_models_draw_too():
    model = tiny_model(seed=4)
    schedule = schedule_from_blocks(model.sizes, 2)
    numbers = torch.from_numpy(uniforms(0, np.arange(16), model.sizes))
    sampler = Sampler(model.eval(), schedule)
    one = sampler.draw(torch.zeros(16, dtype=torch.int64), numbers)
    other = sampler.draw(torch.full((16,), model.num_classes), numbers)
    assert not torch.equal(one, other)
