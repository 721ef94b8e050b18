"""Mixed precision: 16 bits in the products, float32 along the layers and in the rotation."""

import pytest
import torch

from pcb.model.layers import AttentionContext
from pcb.model.rotary import rotate
from tests.models import random_inputs, tiny_model

pytestmark = pytest.mark.usefixtures("exact")

LAYERS = 20


def deep_model():
    model = tiny_model(seed=1, layers=LAYERS, mixing_layers=2)
    torch.nn.init.normal_(model.rotary.phases)
    for layer in model.layers:
        # What a layer adds counts beside what runs along, unlike at the start of training.
        for linear in (layer.attention.qkv, layer.attention.out, layer.mlp.down):
            torch.nn.init.normal_(linear.weight, std=0.1)
    return model


def gradient(model, precision):
    """All gradients of one loss as a vector, in float64."""
    torch.manual_seed(0)
    inputs, sequence = random_inputs(model, batch=4)
    codes = torch.randint(len(model.codebook_VC), (4 * model.tokens,))
    with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
        hidden = model(inputs, AttentionContext(mask=sequence.mask_LL()))
        logits = model.logits(hidden)
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), codes)
    found = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in found]).double()


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_what_runs_along_the_layers_stays_float32(precision):
    model = deep_model()
    seen = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _layer, call, out: seen.append((call[0], out)))
    inputs, sequence = random_inputs(model, batch=2)
    with torch.autocast("cpu", precision), torch.no_grad():
        model(inputs, AttentionContext(mask=sequence.mask_LL()))
    assert len(seen) == LAYERS
    assert {tensor.dtype for pair in seen for tensor in pair} == {torch.float32}


def test_a_rotation_is_rounded_once_at_its_end():
    torch.manual_seed(0)
    phases = torch.randn(7, 3, 8, 2)
    x = torch.randn(2, 7, 3, 8, dtype=torch.bfloat16)
    found = rotate(x, phases)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, rotate(x.float(), phases).bfloat16())


def test_gradients_in_16_bits_are_near_those_in_float32():
    """Relative error of the gradient at 20 layers, against one rounded along the layers."""
    model = deep_model()
    exact = gradient(model, torch.float32)
    error = float((gradient(model, torch.bfloat16) - exact).norm() / exact.norm())

    def rounded(_layer, call):
        return (call[0].bfloat16(), *call[1:])

    for layer in model.layers:
        layer.register_forward_pre_hook(rounded)
    coarse = float((gradient(model, torch.bfloat16) - exact).norm() / exact.norm())
    assert error < 0.0075
    assert error < 0.75 * coarse
