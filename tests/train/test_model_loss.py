"""Every way of computing the loss gives the same, and none is taken where it can't be."""

import pytest
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.testing import CompileCounterWithBackend

from pcb.config import Compute
from pcb.errors import UserError
from pcb.train import loss
from pcb.train import model_loss as module
from pcb.train.model_loss import ModelLoss
from tests.models import random_inputs, tiny_model


@pytest.fixture(autouse=True)
def compiler():
    """Nothing compiled by others, and the compiler's settings as they were."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch():
        yield


def model_loss_of(**compute):
    return ModelLoss(tiny_model(seed=1, layers=4), Compute(**compute))


def inputs_of(model_loss, blocks=2):
    torch.manual_seed(blocks)
    inputs, sequence = random_inputs(model_loss.model, batch=4, blocks=blocks)
    codes_BT = torch.randint(len(model_loss.model.codebook_VC), inputs.conditioning_BTC.shape[:2])
    return inputs, codes_BT, sequence


def losses_and_gradients(model_loss, blocks=2):
    inputs, codes_BT, sequence = inputs_of(model_loss, blocks)
    losses_T = model_loss(inputs, codes_BT, model_loss.mask(sequence))
    return losses_T, torch.autograd.grad(losses_T.mean(), list(model_loss.parameters()))


def test_recomputed_layers_give_the_same_and_keep_less():
    kept, forgetful = model_loss_of(), model_loss_of(recompute=True)
    torch.testing.assert_close(losses_and_gradients(forgetful), losses_and_gradients(kept))
    assert bytes_kept(forgetful) < bytes_kept(kept) / 2


def bytes_kept(model_loss):
    """Size of what the forward pass leaves for the gradients, each storage once."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in model_loss.parameters()}
    inputs, codes_BT, sequence = inputs_of(model_loss)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model_loss(inputs, codes_BT, model_loss.mask(sequence))
    assert losses.requires_grad
    return sum(size for place, size in storages.items() if place not in own)


def test_compiled_layers_share_graphs_and_serve_every_schedule():
    """Two graphs for the layers, one with keys of their own phases; none for another schedule."""
    plain, compiled = model_loss_of(), model_loss_of()
    counter = CompileCounterWithBackend("aot_eager")
    compiled.compile_parts(counter)
    for blocks in (2, 1, 4):
        torch.testing.assert_close(
            losses_and_gradients(compiled, blocks), losses_and_gradients(plain, blocks)
        )
    assert counter.frame_count == 3, "and one for the loss"


def test_compiled_tiles_serve_every_schedule_with_one_graph():
    compiled = model_loss_of()
    compiled.tiled = True
    counter = CompileCounterWithBackend("eager")
    compiled.compile_parts(counter)
    plain = model_loss_of()
    with torch.no_grad():
        for blocks in (2, 1, 4):
            inputs, codes_BT, sequence = inputs_of(plain, blocks)
            expected = plain(inputs, codes_BT, plain.mask(sequence))
            torch.testing.assert_close(
                compiled(inputs, codes_BT, compiled.mask(sequence)), expected
            )
    assert counter.frame_count == 3


def test_a_graph_too_many_is_an_error_and_not_computed_uncompiled(monkeypatch):
    """Layers of models that are gone still count: their graphs belong to the code."""
    monkeypatch.setattr(module, "RECOMPILE_LIMIT", 2)
    compiled = model_loss_of()
    compiled.compile_parts("eager")
    losses_and_gradients(compiled)
    other = model_loss_of()
    other.compile_parts("eager")
    inputs, codes_BT, sequence = inputs_of(other)
    some = slice(0, 3)
    with pytest.raises(FailOnRecompileLimitHit):
        other(inputs.of(some), codes_BT[some], other.mask(sequence))


def test_compiled_parts_keep_their_names_and_can_be_recomputed(monkeypatch):
    monkeypatch.setattr(loss, "PART_LOGITS", {"cpu": 500})
    plain, compiled = model_loss_of(), model_loss_of(recompute=True)
    compiled.compile_parts("aot_eager")
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    torch.testing.assert_close(losses_and_gradients(compiled), losses_and_gradients(plain))


@pytest.mark.parametrize(
    ("compute", "able", "compiled", "tiled"),
    [
        ({}, False, False, False),
        ({}, True, True, True),
        ({"attention": "dense"}, True, True, False),
        ({"compile": False}, True, False, False),
        ({"compile": True, "attention": "flex"}, True, True, True),
    ],
)
def test_the_fastest_way_that_the_device_offers(monkeypatch, compute, able, compiled, tiled):
    done = []
    monkeypatch.setattr(module, "can_compile", lambda device: able)
    monkeypatch.setattr(ModelLoss, "compile_parts", lambda self: done.append(True))
    assert (model_loss_of(**compute).tiled, bool(done)) == (tiled, compiled)


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        ({"compile": True}, r"compute\.compile = true: needs a GPU"),
        ({"attention": "flex"}, r"compute\.attention = 'flex': only compiled attention"),
    ],
)
def test_what_the_device_cannot_do_is_refused(compute, words):
    with pytest.raises(UserError, match=words):
        model_loss_of(**compute)
