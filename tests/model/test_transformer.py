"""The transformer: sizes, starts, causality, and its rotary phases against complex numbers."""

import json
import math
from dataclasses import replace

import pytest
import torch

from pcb.config import Model
from pcb.external.tensor_names import rename
from pcb.model.layers import AttentionContext
from pcb.model.rotary import RotaryPhases, initial_angles, rotate
from pcb.model.transformer import Transformer
from pcb.order.schedule import scale_sizes
from tests.models import random_inputs, tiny_model
from tests.recorded import REFERENCE


def meta_model(settings, sizes=(1, 2, 4, 8, 16)):
    with torch.device("meta"):
        return Transformer(settings, sizes, 1000, torch.empty(4096, 8))


@pytest.mark.parametrize(
    ("settings", "millions"),
    [
        (Model(), 57.68),
        (Model(width=1024, layers=20, heads=16, hidden=3072), 367.57),
    ],
)
def test_published_sizes(settings, millions):
    assert meta_model(settings).num_parameters() / 1e6 == pytest.approx(millions, abs=0.005)


def test_every_tensor_of_the_released_large_model_has_its_place():
    released = json.loads((REFERENCE / "L2x_state_dict.json").read_text())
    released = {k: v for k, v in released.items() if not k.startswith("autoenc.")}
    model = meta_model(Model(width=1024, layers=20, heads=16, hidden=3072))
    ours = {name: list(t.shape) for name, t in model.state_dict().items()}
    del ours["codebook_VC"]
    ours["rotary.phases"] = [343, 128]
    assert {rename(name): shape for name, (shape, _) in released.items()} == ours


@pytest.mark.parametrize("init", ["as_published", "as_intended", "narrow"])
def test_first_loss_is_ln_of_the_codebook(init):
    model = tiny_model(init=init)
    inputs, sequence = random_inputs(model, batch=2)
    logits = model.logits(model(inputs, AttentionContext(mask=sequence.mask_LL())))
    targets = torch.randint(logits.shape[-1], logits.shape[:2])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(math.log(logits.shape[-1]), abs=1e-6)


def test_published_start_is_n_002_in_the_layers():
    layer = tiny_model(init="as_published").layers[0]
    for weight in (layer.attention.qkv.weight, layer.mlp.up.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert layer.mlp_norm.modulation.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_narrow_start_hands_code_vectors_on_at_their_size():
    """A large random codebook in, mean squares near 1 out, by both ways a code enters."""
    model = tiny_model(init="narrow")
    codes_BTC = torch.randn(1, 4000, model.codebook_VC.shape[1])
    code_BTD = model.code_mlp(torch.nn.functional.normalize(codes_BTC, dim=-1))
    for entry in (code_BTD, model.source_projection(code_BTD)):
        assert 0.5 < entry.square().mean().item() < 2
    norm = model.layers[0].attention_norm
    x = torch.randn(2, 5, norm.norm.weight.numel())
    modulation = norm.modulated(torch.randn(2, x.shape[-1]))
    torch.testing.assert_close(norm(x, modulation), norm.norm(x))


def test_intended_start_of_the_adaptive_norm_is_the_plain_norm():
    norm = tiny_model(init="as_intended").layers[0].attention_norm
    x = torch.randn(2, 5, norm.norm.weight.numel())
    modulation = norm.modulated(torch.randn(2, x.shape[-1]))
    torch.testing.assert_close(norm(x, modulation), norm.norm(x))


def test_a_token_depends_on_its_own_and_earlier_blocks_alone():
    model = tiny_model(seed=3)
    inputs, sequence = random_inputs(model, batch=1, blocks=4)
    context = AttentionContext(mask=sequence.mask_LL())
    logits = model.logits(model(inputs, context))
    blocks = sequence.blocks_L[1:]
    for t in (3, 10, len(blocks) - 1):
        latents = inputs.conditioning_BTC.clone()
        latents[:, t] += 1
        moved = model(replace(inputs, conditioning_BTC=latents), context)
        moved = model.logits(moved)
        changed = (logits - moved).abs().amax((0, 2)) > 1e-6
        assert (blocks[changed] >= blocks[t]).all()
        assert changed[blocks == blocks[t]].all(), "its whole block sees it"


@pytest.mark.parametrize("mixing_layers", [0, 1, 3])
@pytest.mark.parametrize("head_mlp", [False, True])
@pytest.mark.parametrize("sizes", [(1, 3, 8), (8,)])
def test_every_variant_trains_every_parameter(mixing_layers, head_mlp, sizes):
    model = tiny_model(mixing_layers=mixing_layers, head_mlp=head_mlp, sizes=sizes)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    inputs, sequence = random_inputs(model, batch=2)
    hidden = model(inputs, AttentionContext(mask=sequence.mask_LL()))
    model.logits(hidden).square().mean().backward()
    single = len(sizes) == 1
    for name, parameter in model.named_parameters():
        if single and name == "rotary.mixing":
            continue
        if parameter.numel():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_rotation_at_the_start_is_complex_multiplication():
    """With equal phases in both halves, x cos + rotate_half(x) sin is a rotation."""
    angles = torch.randn(7, 1, 4).repeat(1, 1, 2)
    phases = torch.stack([angles.cos(), angles.sin()], -1)
    x = torch.randn(2, 7, 3, 8)
    as_complex = torch.complex(x[..., :4], x[..., 4:])
    turned = as_complex * torch.polar(torch.ones(7, 1, 4), angles[..., :4])
    torch.testing.assert_close(rotate(x, phases), torch.cat([turned.real, turned.imag], -1))


def test_initial_angles_follow_the_formula():
    sizes, head_dim = scale_sizes(16, 2), 64
    angles = initial_angles(sizes, head_dim)
    assert angles.shape == (343, 64)
    f = head_dim - head_dim // 8
    x, y, size, index = 2, 1, 4, 2
    row = 1 + 4 + y * size + x
    stride = 16 / size
    for j in (0, 5, f // 2 - 1):
        wave = (16**2) ** (-2 * j / f)
        assert float(angles[row, j]) == pytest.approx((stride * x + 1) * wave, rel=1e-5)
        assert float(angles[row, f // 2 + j]) == pytest.approx((stride * y + 1) * wave, rel=1e-5)
    for j in range(8):
        expected = (index + 1) * (math.pi / 2) / 10 ** (j / 8)
        assert float(angles[row, f + j]) == pytest.approx(expected, rel=1e-5)
    assert not angles[-2:].any()


def test_mixed_keys_start_half_way_and_phases_have_unit_modulus():
    rotary = RotaryPhases((1, 2), head_dim=16, heads=2, mixing_layers=1)
    with torch.no_grad():
        rotary.phases.mul_(3.0)
    rows, before = torch.tensor([1, 2]), torch.tensor([0, 1])
    phases = rotary(rows, before)
    here, there = phases.shared[:, 0], rotary(before, before).shared[:, 0]
    torch.testing.assert_close(here.norm(dim=-1), torch.ones_like(here[..., 0]))
    queries, keys = phases.of(0).unbind(1)
    torch.testing.assert_close(queries, here.expand(-1, 2, -1, -1))
    torch.testing.assert_close(keys, ((here + there) / 2).expand(-1, 2, -1, -1))
    assert phases.of(1) is phases.shared, "no mixing layer"


def test_models_of_two_orders_begin_with_the_same_weights():
    one, other = tiny_model(seed=3), tiny_model(seed=3, order="raster")
    state = other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())
