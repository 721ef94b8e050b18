"""All systems under one signature, at toy size; what the catalog says of three of them."""

import json

import numpy as np
import pytest
import torch

from pcb.errors import UserError
from pcb.published.guidance import OFF, Constant, Linear, Ramp
from pcb.published.systems import catalog
from pcb.sample.decoder import forced_logits
from pcb.sample.filter import Filter
from pcb.sample.sampler import Sampler, sample_with_logits
from pcb.systems.kinds import KINDS
from pcb.systems.var_quantizer import VARTokenizerConfig
from pcb.systems.var_tokenizer import VARTokenizer
from tests.recorded import PEERS

TOY = {
    "width": 16, "hidden_width": 32, "heads": 2, "blocks": 1, "codes": 12, "classes": 3,
    "grid": (4, 4), "parallel_tokens": 4, "self_blocks": 1, "cross_blocks": 1, "code_width": 8,
    "scales": (1, 2, 3),
}  # fmt: skip
STEPS = 5
PARALLEL = ("ARPG", "LPD", "VAR")
SEVEN = {system.kind: system for system in catalog().values()}


def toy(kind):
    torch.manual_seed(0)
    return KINDS[kind].build(TOY, "toy").eval().requires_grad_(False)


def toy_tokenizer():
    config = VARTokenizerConfig(
        scales=TOY["scales"],
        codes=12,
        code_width=8,
        base_width=8,
        width_multipliers=(1,),
        group_norm_groups=4,
    )
    torch.manual_seed(1)
    return VARTokenizer(config).eval().requires_grad_(False)


def decoder_of(kind, model, guidance=OFF):
    return KINDS[kind].decoder(model, guidance, STEPS, toy_tokenizer())


def orders_of(kind, model, indices):
    orders = KINDS[kind].orders
    return orders and torch.from_numpy(orders(model, STEPS, 3, np.asarray(indices)))


def test_every_system_of_the_catalog_has_a_kind():
    assert KINDS.keys() == SEVEN.keys()
    assert len(catalog()) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_a_toy_model_cover_every_token(kind):
    model = toy(kind)
    decoder = decoder_of(kind, model, Constant(2.0))
    codes, _ = sample_with_logits(
        decoder,
        torch.tensor([0, 1, 2]),
        torch.rand(3, decoder.tokens),
        orders_of(kind, model, [0, 1, 2]),
        Filter(top_k=6, top_p=0.9),
    )
    cells = [decoder.cells(step).expand(3, -1) for step in range(decoder.steps)]
    assert codes.shape == (3, decoder.tokens) and codes.max() < decoder.vocabulary == 12
    every = torch.arange(decoder.tokens).expand(3, -1)
    assert torch.equal(torch.cat(cells, dim=1).sort(dim=1).values, every)


@pytest.mark.parametrize("kind", KINDS)
def test_random_orders_belong_to_the_image(kind):
    model = toy(kind)
    orders = orders_of(kind, model, [0, 1, 2, 3])
    assert (orders is not None) == (kind in {"RandAR", "ARPG", "LPD"})
    if orders is not None:
        assert torch.equal(orders_of(kind, model, [2, 7])[0], orders[2])
        assert len(orders.unique(dim=0)) == 4


@pytest.mark.parametrize("kind", PARALLEL)
@torch.inference_mode()
def test_a_step_taken_twice_gives_the_same(kind):
    model = toy(kind)
    labels, orders = torch.tensor([0, 2]), orders_of(kind, model, [0, 1])
    decoder = decoder_of(kind, model, Constant(1.5))
    uniforms = torch.rand(2, decoder.tokens)
    sampler = Sampler(decoder, measure=lambda block: (block.logits_BnV,))
    once = sampler.sample(labels, uniforms, orders)
    sampler.begin(labels, uniforms, orders)
    for step in range(decoder.steps):
        first = sampler.step(step)[0].clone()
        assert torch.equal(sampler.step(step)[0], first)
    assert torch.equal(sampler.codes_BT, once)


@pytest.mark.parametrize("kind", PARALLEL)
def test_one_decoder_serves_batches_of_several_sizes(kind):
    model, sizes = toy(kind), (3, 1, 5, 2)
    used = decoder_of(kind, model, Constant(1.5))
    for images in sizes:
        labels, orders = torch.arange(images) % 3, orders_of(kind, model, range(images))
        codes = torch.arange(images * used.tokens).view(images, -1) % 12
        fresh = forced_logits(decoder_of(kind, model, Constant(1.5)), labels, codes, orders)
        assert torch.equal(forced_logits(used, labels, codes, orders), fresh)


@pytest.mark.parametrize("kind", PARALLEL)
def test_bfloat16_weights_give_float32_logits(kind):
    model = toy(kind)
    labels, orders = torch.tensor([1, 0]), orders_of(kind, model, [0, 1])
    decoder = decoder_of(kind, model, Constant(2.0))
    codes = torch.zeros(2, decoder.tokens, dtype=torch.int64)
    exact = forced_logits(decoder, labels, codes, orders)
    rounded = forced_logits(
        decoder_of(kind, model.bfloat16(), Constant(2.0)), labels, codes, orders
    )
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("kind", ["ARPG", "LPD"])
def test_steps_that_cannot_be_are_the_users_error(kind):
    with pytest.raises(UserError, match=f"{kind}: 16 tokens cannot be sampled in 17"):
        KINDS[kind].decoder(toy(kind), OFF, 17, None)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("ARPG", {"width": 18}, "width 18 is not a multiple of 4"),
        ("ARPG", {"grid": (4, 5)}, "4 x 5 is not square"),
        ("ARPG", {"curve": "straight"}, "curve"),
        ("LPD", {"heads": 3}, "not a multiple of 3 heads"),
        ("LPD", {"grid": (4, 5)}, "4 x 5 is not square"),
        ("LPD", {"blocks": 0}, "blocks"),
        ("VAR", {"heads": 3}, "not a multiple of 3 heads"),
        ("VAR", {"scales": (1, 3, 2)}, "do not grow"),
        ("VAR", {"codes": "many"}, "codes"),
    ],
)
def test_sizes_that_no_model_has_are_refused(kind, change, message):
    with pytest.raises(UserError, match=f"toy: .*{message}"):
        KINDS[kind].build(TOY | change, "toy")


@pytest.mark.parametrize("kind", PARALLEL)
def test_settings_of_the_catalog_are_the_recorded_ones(kind):
    system = SEVEN[kind]
    recorded = json.loads((PEERS / kind.lower() / "config.json").read_text())["published"]
    assert system.name == recorded["name"]
    for key, value in system.description.items():
        if key != "curve":
            assert recorded[key] == (list(value) if isinstance(value, tuple) else value), key
    filter = (system.temperature, system.top_k, system.top_p)
    assert filter == (recorded["temperature"], recorded["top_k"], recorded["top_p"])
    assert (system.steps, system.image_size) == (recorded["steps"], recorded["image_size"])
    assert system.parameters == recorded["parameters"]
    if kind != "ARPG":  # That of its row is not known.
        scale = recorded["guidance"]["scale"]
        expected = Ramp(scale) if kind == "VAR" else Linear(last=scale, count="before token")
        assert system.guidance == expected


@pytest.mark.parametrize("kind", PARALLEL)
def test_catalog_take_the_published_calls(kind):
    system = SEVEN[kind]
    with torch.device("meta"):
        full = KINDS[kind].build(system.description, system.name)
    assert len(full.state_dict()) == system.tensors
    assert sum(x.numel() for x in full.parameters()) == system.parameters
    # Blocks follow from the grid; of the rest a small model will do.
    named = ("grid", "curve", "scales")
    grid = {key: x for key, x in system.description.items() if key in named}
    model = KINDS[kind].build(TOY | grid, system.name)
    tokenizer = toy_tokenizer()
    tokenizer.quantize.scales = grid.get("scales")
    decoder = KINDS[kind].decoder(model, system.guidance, system.schedule_steps, tokenizer)
    assert (decoder.steps, decoder.tokens) == (system.steps, 680 if kind == "VAR" else 256)
