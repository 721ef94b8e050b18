"""The class token's own rotary row, where training and the sampler's tables take it from."""

import pytest
import torch

from pcb.config import Speed
from pcb.model.sequence import sequence_of
from pcb.order.schedule import schedule_from_blocks
from pcb.sample.guidance import Guidance
from pcb.sample.prepared import Prepared
from tests.models import tiny_model
from tests.sample.test_sampler import draw, full_pass


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
    seen = []
    codes = draw(model, schedule, range(3), guidance=guidance, observe=seen.append)
    labels = torch.arange(3)
    expected = full_pass(model, schedule, codes, labels)
    unconditional = full_pass(model, schedule, codes, torch.full((3,), model.num_classes))
    guided = guidance.mix(expected, unconditional)
    expected = torch.cat([expected[:, :1], guided[:, 1:]], dim=1)
    found = torch.cat([step.logits_BnV for step in seen], dim=1)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("tables", [True, False])
def test_the_class_tokens_key_has_the_phase_of_its_query(tables):
    """It mixes its own row with itself, whatever the mixing weights are."""
    model = trained_model(mixing_layers=2)
    sequence = sequence_of(schedule_from_blocks(model.sizes, 2))
    prepared = Prepared(model, sequence, Speed(phases=tables))
    here, mixed = prepared.phases(0, 2)
    assert len(mixed) == 2
    for phases in mixed:
        torch.testing.assert_close(phases[0], here[0].expand_as(phases[0]))
        assert not torch.allclose(phases[1], here[1].expand_as(phases[1]), atol=0.1)
