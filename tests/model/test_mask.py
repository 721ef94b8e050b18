"""The tiled mask against FlexAttention's own construction, and both ways of attention."""

import pytest
import torch
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import create_block_mask

from pcb.model.layers import AttentionContext
from pcb.model.mask import TILE, attend, tiled_mask
from pcb.model.sequence import sequence_of
from pcb.order.allocation import schedule_from_total
from pcb.order.schedule import schedule_from_blocks
from tests.models import random_inputs, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

SEQUENCES = [
    sequence_of(schedule_from_blocks((1, 2, 4, 8, 16), 4)),
    sequence_of(schedule_from_blocks((1, 2, 4, 8, 16), 1)),
    sequence_of(schedule_from_total((1, 3, 8, 21), 200)),
    # 3 * 128 positions: no tile sticks out.
    sequence_of(schedule_from_blocks((1, 2, 3, 12, 15), 7)),
    sequence_of(schedule_from_blocks((4,), 3)),
]


@pytest.fixture
def gradients_on_cpu(monkeypatch):
    """Let the eager FlexAttention differentiate here: it can, but is not offered on a CPU."""
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)


def listed(mask, kind):
    """The set of (row, column) tiles that one of a block mask's lists names."""
    counts = getattr(mask, f"{kind}_num_blocks")[0, 0]
    indices = getattr(mask, f"{kind}_indices")[0, 0]
    return {
        (row, int(column))
        for row, count in enumerate(counts.tolist())
        for column in indices[row, :count]
    }


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda s: f"{len(s.blocks_L)}")
def test_tiles_are_those_of_the_library(sequence):
    blocks = sequence.blocks_L
    length = len(blocks)
    own = tiled_mask(blocks)
    theirs = create_block_mask(own.mask_mod, None, None, length, length, device="cpu")
    assert own.BLOCK_SIZE == theirs.BLOCK_SIZE
    assert own.seq_lengths == theirs.seq_lengths
    for kind in ("kv", "q", "full_kv", "full_q"):
        assert listed(own, kind) == listed(theirs, kind), kind
    if length > 2 * TILE:
        assert listed(own, "full_kv"), "some are seen whole"


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda s: f"{len(s.blocks_L)}")
def test_attention_by_tiles_equals_attention_by_the_dense_mask(sequence, gradients_on_cpu):
    torch.manual_seed(0)
    length = len(sequence.blocks_L)
    results = []
    values = torch.randn(3, 2, 2, length, 8)
    for mask in (sequence.mask_LL(), tiled_mask(sequence.blocks_L)):
        q, k, v = (part.clone().requires_grad_() for part in values)
        out = attend(q, k, v, mask)
        out.square().sum().backward()
        results.append((out, q.grad, k.grad, v.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


def test_the_transformer_gives_the_same_by_either_mask():
    model = tiny_model(seed=1)
    inputs, sequence = random_inputs(model, batch=2)
    with torch.no_grad():
        dense = model(inputs, AttentionContext(mask=sequence.mask_LL()))
        tiled = model(inputs, AttentionContext(mask=tiled_mask(sequence.blocks_L)))
    torch.testing.assert_close(tiled, dense)
