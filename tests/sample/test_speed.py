"""Optimizations of the sampler: each alone and all together change nothing but rounding."""

import weakref

import msgspec
import numpy as np
import pytest
import torch

import pcb.sample.sampler as module
from pcb.config import Speed
from pcb.config.speed import BASELINE
from pcb.model.cache import Cache
from pcb.model.transformer import Transformer
from pcb.order.allocation import schedule_from_total
from pcb.order.schedule import schedule_from_blocks
from pcb.sample.filter import GREEDY
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import sampler_for
from pcb.sample.uniforms import uniforms
from tests.models import tiny_model
from tests.sample.test_sampler import codes_and_logits, sampled

SWITCHES = list(Speed.__struct_fields__)
ONE_ON = [msgspec.structs.replace(BASELINE, **{name: True}) for name in SWITCHES]
ONE_OFF = [msgspec.structs.replace(Speed(), **{name: False}) for name in SWITCHES]


def with_logits(model, schedule, indices, **settings):
    """Codes of some images, and the logits of all steps."""
    codes, steps = sampled(model, schedule, indices, **settings)
    return codes, torch.cat([logits for _, logits in steps], dim=1)


@pytest.mark.parametrize("speed", [Speed(), *ONE_ON])
@pytest.mark.parametrize(("sizes", "settings"), [((1, 2, 4, 8), {}), ((1, 3), {"head_mlp": True})])
@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_codes_are_those_of_the_baseline(speed, sizes, settings, weight):
    model = tiny_model(sizes=sizes, seed=2, mixing_layers=2, codes=64, **settings)
    torch.nn.init.normal_(model.empty_code)
    torch.nn.init.normal_(model.empty_position)
    schedule = schedule_from_blocks(sizes, 4)
    guidance = Guidance(weight=weight, start_step=3)
    codes, logits = with_logits(model, schedule, range(5), speed=speed, guidance=guidance)
    expected_codes, expected = with_logits(
        model, schedule, range(5), speed=BASELINE, guidance=guidance
    )
    assert torch.equal(codes, expected_codes)
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("speed", [BASELINE, *ONE_ON, *ONE_OFF])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_an_image_is_the_same_in_any_batch_whatever_is_switched_on(speed, weight):
    """To the last bit, also where the first guided step catches up with one token alone."""
    model = tiny_model(sizes=(1, 3, 8), seed=5, codes=256)
    schedule = schedule_from_total(model.sizes, 13)
    guidance = Guidance(weight=weight, start_step=1)
    codes, logits = with_logits(model, schedule, range(18), speed=speed, guidance=guidance)
    for batch in (1, 2, 5, 17):
        some_codes, some = with_logits(
            model, schedule, range(batch), speed=speed, guidance=guidance
        )
        assert torch.equal(some_codes, codes[:batch])
        assert torch.equal(some, logits[:batch]), f"batches of {batch}"


def test_storage_serves_batch_after_batch():
    """The second batch sees nothing of the first one, nor of what filled it up."""
    model = tiny_model(sizes=(1, 2, 4), seed=3, codes=64).eval()
    guidance = Guidance(weight=1.0, start_step=2)
    sampler = sampler_for(model, schedule_from_blocks(model.sizes, 3), guidance=guidance)
    numbers = torch.from_numpy(uniforms(0, np.arange(9), model.sizes))
    labels = torch.arange(9) % model.num_classes
    first = sampler.sample(labels[:3], numbers[:3])
    storage = sampler.decoder.state
    sampler.sample(labels[3:6], numbers[3:6])
    assert sampler.decoder.state is storage
    assert torch.equal(sampler.sample(labels[:3], numbers[:3]), first)
    assert torch.equal(sampler.sample(labels, numbers)[:3], first), "a batch of another size"


@pytest.mark.parametrize("speed", [Speed(), BASELINE])
def test_half_precision_draws_like_float32_nearly(speed):
    """Phases and codebook stay float32; logits differ by what eight bits of weights leave out."""
    model = tiny_model(sizes=(1, 2, 4), seed=2, head_mlp=True)
    schedule = schedule_from_blocks(model.sizes, 2)
    guidance = Guidance(weight=0.5, start_step=2)
    settings = {"speed": speed, "guidance": guidance, "filter": GREEDY}
    _, expected = with_logits(model, schedule, range(4), **settings)
    model.round_to(torch.bfloat16)
    assert model.rotary.phases.dtype == model.codebook_VC.dtype == torch.float32
    assert model.empty_code.dtype == model.head.weight.dtype == torch.bfloat16
    _, logits = with_logits(model, schedule, range(4), **settings)
    first = logits[:, 0].float() - expected[:, 0]
    assert 0 < first.abs().max() < 0.05 * expected[:, 0].abs().max()


def test_steps_of_few_tokens_alone_are_filled_up(monkeypatch):
    """Two images take 16 rows of a matrix product where a step has fewer, and no more elsewhere."""
    model = tiny_model(sizes=(1, 2, 4, 8), seed=1)
    rows = []
    logits = Transformer.logits

    def counted(self, hidden, head=None):
        rows.append(hidden.shape[:2].numel())
        return logits(self, hidden, head)

    monkeypatch.setattr(Transformer, "logits", counted)
    schedule = schedule_from_blocks(model.sizes, 1)
    sampled(model, schedule, range(2))
    assert rows == [16, 16, 32, 128]
    rows.clear()
    sampled(model, schedule, range(2), speed=BASELINE)
    assert rows == [16, 64, 256, 1024]


class Uncaptured:
    """In place of CUDA graphs, on a CPU: steps are taken, not recorded."""

    def __init__(self, device):
        pass

    def run(self, step, take):
        return take(step)


def test_graphs_serve_smaller_batches_and_go_before_storage_grows(monkeypatch):
    monkeypatch.setattr(module, "StepGraphs", Uncaptured)
    model = tiny_model(sizes=(1, 2, 4), seed=3, codes=64).eval()
    guidance = Guidance(weight=1.0, start_step=2)
    schedule = schedule_from_blocks(model.sizes, 3)
    sampler = sampler_for(model, schedule, guidance=guidance, measure=codes_and_logits)
    sampler._with_graphs = True
    numbers = torch.from_numpy(uniforms(7, np.arange(9), model.sizes))
    labels = torch.arange(9) % model.num_classes
    codes, _ = sampled(model, schedule, range(9), guidance=guidance)
    seen = []
    assert torch.equal(sampler.sample(labels[:5], numbers[:5]), codes[:5])
    graphs, state = weakref.ref(sampler._graphs), weakref.ref(sampler.decoder.state)
    found = sampler.sample(labels[:3], numbers[:3], observe=lambda _, parts: seen.append(parts[0]))
    assert torch.equal(found, codes[:3])
    assert {len(part) for part in seen} == {3}
    assert sampler.decoder.state is state() is not None
    allocate = Cache.allocate

    def after_the_old_is_gone(**settings):
        assert graphs() is state() is None
        return allocate(**settings)

    monkeypatch.setattr(Cache, "allocate", after_the_old_is_gone)
    assert torch.equal(sampler.sample(labels, numbers), codes)


@pytest.mark.gpu
@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_graphs_draw_what_single_calls_do(weight):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    model = tiny_model(sizes=(1, 2, 4, 8), seed=2, mixing_layers=2, codes=64).cuda()
    schedule = schedule_from_blocks(model.sizes, 4)
    guidance = Guidance(weight=weight, start_step=3)
    plain = msgspec.structs.replace(Speed(), graphs=False)
    expected_codes, expected = with_logits(
        model, schedule, range(5), speed=plain, guidance=guidance
    )
    sampler = sampler_for(model.eval(), schedule, guidance=guidance, measure=codes_and_logits)
    numbers = torch.from_numpy(uniforms(7, np.arange(5), model.sizes))
    labels = torch.arange(5) % model.num_classes
    for batch in (5, 5, 3):  # Captured, replayed, and filled up to the captured size.
        seen = []
        codes = sampler.sample(
            labels[:batch],
            numbers[:batch],
            observe=lambda _, measured, to=seen: to.append(measured[1].clone()),
        )
        assert torch.equal(codes, expected_codes[:batch])
        torch.testing.assert_close(torch.cat(seen, 1), expected[:batch], atol=2e-5, rtol=0)
