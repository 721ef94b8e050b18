"""Optimisations of the sampler: each alone and all together change nothing but rounding."""

import msgspec
import numpy as np
import pytest
import torch

from pcb.config import Speed
from pcb.config.speed import BASELINE
from pcb.order.allocation import schedule_from_total
from pcb.order.schedule import schedule_from_blocks
from pcb.sample.draw import uniforms
from pcb.sample.guidance import Guidance
from pcb.sample.prepared import Prepared
from pcb.sample.sampler import Sampler
from tests.models import tiny_model

SWITCHES = list(Speed.__struct_fields__)
ONE_ON = [msgspec.structs.replace(BASELINE, **{name: True}) for name in SWITCHES]
ONE_OFF = [msgspec.structs.replace(Speed(), **{name: False}) for name in SWITCHES]


def drawn(model, schedule, speed, batch, *, guidance=None, temperature=1.0):
    """Codes of some images, and the logits of every step."""
    torch.set_num_threads(1)
    sampler = Sampler(
        model.eval(), schedule, guidance=guidance, temperature=temperature, speed=speed
    )
    images = np.arange(batch)
    numbers = torch.from_numpy(uniforms(3, images, model.sizes))
    seen = []
    labels = torch.from_numpy(images % model.num_classes)
    codes = sampler.draw(labels, numbers, lambda step: seen.append(step.logits_BnV.clone()))
    return codes, torch.cat(seen, dim=1)


@pytest.mark.parametrize("speed", [Speed(), *ONE_ON])
@pytest.mark.parametrize(("sizes", "settings"), [((1, 2, 4, 8), {}), ((1, 3), {"head_mlp": True})])
@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_codes_are_those_of_the_baseline(speed, sizes, settings, weight):
    model = tiny_model(sizes=sizes, seed=2, mixing_layers=2, codes=64, **settings)
    torch.nn.init.normal_(model.empty_code)
    torch.nn.init.normal_(model.empty_position)
    schedule = schedule_from_blocks(sizes, 4)
    guidance = Guidance(weight=weight, start_step=3)
    codes, logits = drawn(model, schedule, speed, 5, guidance=guidance)
    expected_codes, expected = drawn(model, schedule, BASELINE, 5, guidance=guidance)
    assert torch.equal(codes, expected_codes)
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("speed", [BASELINE, *ONE_ON, *ONE_OFF])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_an_image_is_the_same_in_any_batch_whatever_is_switched_on(speed, weight):
    """To the last bit, also where the first guided step catches up with one token alone."""
    model = tiny_model(sizes=(1, 3, 8), seed=5, codes=256)
    schedule = schedule_from_total(model.sizes, 13)
    guidance = Guidance(weight=weight, start_step=1)
    codes, logits = drawn(model, schedule, speed, 18, guidance=guidance)
    for batch in (1, 2, 5, 17):
        some_codes, some = drawn(model, schedule, speed, batch, guidance=guidance)
        assert torch.equal(some_codes, codes[:batch])
        assert torch.equal(some, logits[:batch]), f"batches of {batch}"


def test_storage_serves_batch_after_batch():
    """The second batch sees nothing of the first one, nor of what filled it up."""
    model = tiny_model(sizes=(1, 2, 4), seed=3, codes=64).eval()
    sampler = Sampler(
        model, schedule_from_blocks(model.sizes, 3), guidance=Guidance(weight=1.0, start_step=2)
    )
    numbers = torch.from_numpy(uniforms(0, np.arange(9), model.sizes))
    labels = torch.arange(9) % model.num_classes
    first = sampler.draw(labels[:3], numbers[:3])
    storage = sampler.begin(labels[:3], numbers[:3])
    sampler.draw(labels[3:6], numbers[3:6])
    assert sampler.begin(labels[:3], numbers[:3]) is storage
    assert torch.equal(sampler.draw(labels[:3], numbers[:3]), first)
    assert torch.equal(sampler.draw(labels, numbers)[:3], first), "a batch of another size"


@pytest.mark.parametrize("speed", [Speed(), BASELINE])
def test_half_precision_draws_like_float32_nearly(speed):
    """Phases and codebook stay float32; logits differ by what eight bits of weights leave out."""
    model = tiny_model(sizes=(1, 2, 4), seed=2, head_mlp=True)
    schedule = schedule_from_blocks(model.sizes, 2)
    guidance = Guidance(weight=0.5, start_step=2)
    _, expected = drawn(model, schedule, speed, 4, guidance=guidance, temperature=0.0)
    model.round_to(torch.bfloat16)
    assert model.rotary.phases.dtype == model.codebook_VC.dtype == torch.float32
    assert model.empty_code.dtype == model.head.weight.dtype == torch.bfloat16
    _, logits = drawn(model, schedule, speed, 4, guidance=guidance, temperature=0.0)
    first = logits[:, 0].float() - expected[:, 0]
    assert 0 < first.abs().max() < 0.05 * expected[:, 0].abs().max()


def test_steps_of_few_tokens_alone_are_filled_up(monkeypatch):
    """Two images take 16 rows of a matrix product where a step has fewer, and no more elsewhere."""
    model = tiny_model(sizes=(1, 2, 4, 8), seed=1)
    rows = []
    logits = Prepared.logits
    monkeypatch.setattr(
        Prepared,
        "logits",
        lambda self, hidden: (rows.append(hidden.shape[:2].numel()), logits(self, hidden))[1],
    )
    schedule = schedule_from_blocks(model.sizes, 1)
    drawn(model, schedule, Speed(), 2)
    assert rows == [16, 16, 32, 128]
    rows.clear()
    drawn(model, schedule, BASELINE, 2)
    assert rows == [16, 64, 256, 1024]


@pytest.mark.gpu
@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_graphs_draw_what_single_calls_do(weight):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    model = tiny_model(sizes=(1, 2, 4, 8), seed=2, mixing_layers=2, codes=64).cuda()
    schedule = schedule_from_blocks(model.sizes, 4)
    guidance = Guidance(weight=weight, start_step=3)
    plain = msgspec.structs.replace(Speed(), graphs=False)
    expected_codes, expected = drawn(model, schedule, plain, 5, guidance=guidance)
    sampler = Sampler(model.eval(), schedule, guidance=guidance)
    numbers = torch.from_numpy(uniforms(3, np.arange(5), model.sizes))
    labels = torch.arange(5) % model.num_classes
    for batch in (5, 5, 3):  # Captured, replayed, and filled up to the captured size.
        seen = []
        codes = sampler.draw(
            labels[:batch],
            numbers[:batch],
            lambda step, to=seen: to.append(step.logits_BnV.clone()),
        )
        assert torch.equal(codes, expected_codes[:batch])
        torch.testing.assert_close(torch.cat(seen, 1), expected[:batch], atol=2e-5, rtol=0)
