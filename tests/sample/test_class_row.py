"""The class token's own rotary row, where training and the sampler's tables take it from."""

import pytest
import torch

from pcb.model.precomputed import phases_of
from pcb.model.sequence import sequence_of
from pcb.order.schedule import schedule_from_blocks
from pcb.sample.guidance import Guidance
from tests.models import tiny_model
from tests.sample.test_sampler import full_pass, sampled


def trained_model(**settings):
    """A model whose phases have left their start, where the class row equals the empty one."""
    model = tiny_model(seed=2, **settings)
    torch.nn.init.normal_(model.rotary.phases)
    torch.nn.init.normal_(model.rotary.mixing)
    return model


@pytest.mark.parametrize("mixing_layers", [0, 2, 3])
@pytest.mark.parametrize(("sizes", "head_mlp"), [((1, 2, 4), False), ((1, 3), True)])
def test_cached_decoding_equals_one_full_pass(sizes, head_mlp, mixing_layers):
    model = trained_model(sizes=sizes, mixing_layers=mixing_layers, head_mlp=head_mlp)
    schedule = schedule_from_blocks(sizes, 2)
    guidance = Guidance(weight=1.5, start_step=1)
    codes, steps = sampled(model, schedule, range(3), guidance=guidance)
    labels = torch.arange(3)
    expected = full_pass(model, schedule, codes, labels)
    unconditional = full_pass(model, schedule, codes, torch.full((3,), model.num_classes))
    guided = guidance.mix(expected, unconditional)
    expected = torch.cat([expected[:, :1], guided[:, 1:]], dim=1)
    found = torch.cat([logits for _, logits in steps], dim=1)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_the_class_tokens_key_has_the_phase_of_its_query():
    """It mixes its own row with itself, whatever the mixing weights are."""
    model = trained_model(mixing_layers=2)
    phases = phases_of(model, sequence_of(schedule_from_blocks(model.sizes, 2)))
    assert len(phases.mixing) == 2
    for queries, keys in (mixing.unbind(1) for mixing in phases.mixing):
        torch.testing.assert_close(keys[0], queries[0])
        assert not torch.allclose(keys[1], queries[1], atol=0.1)
