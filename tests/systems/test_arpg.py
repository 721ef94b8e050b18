"""ARPG: its schedules, orders and decoding against the golden data."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pcb.orders.remaining import remaining_blocks
from pcb.systems.arpg import ARPG, ARPGConfig, ARPGDecoder, load_arpg, published_order
from pcb.systems.backbone import rotary_table
from pcb.systems.base import decode, forced_logits
from pcb.systems.filter import GREEDY
from pcb.systems.guidance import OFF, Constant, Linear
from pcb.systems.weights import read_config
from tests.systems.golden import (
    Golden,
    check_batches,
    check_pickle,
    check_refusals,
    close,
    tensors_of,
)

GOLDEN = Golden("arpg")
CONFIG = read_config(GOLDEN.config["tiny"], ARPGConfig, "config.json")
CURVES = {"arccos": "arccos", "cosine": "cosine", "firstrelease": "first release"}
RUNS = {
    "gen64_off": (8, 8, "arccos", OFF),
    "gen64_linear5": (8, 8, "arccos", Linear(last=5.0, count="with block")),
    "gen64_constant4_cosine": (8, 8, "cosine", Constant(4.0)),
    "gen256_linear5": (16, 32, "arccos", Linear(last=5.0, count="with block")),
    "gen256_firstrelease": (16, 32, "first release", Linear(last=5.5, count="next")),
}


@pytest.fixture(scope="module")
def model():
    return load_arpg(GOLDEN.weights, CONFIG)


def decoder_of(model, run, guidance=None):
    side, steps, curve, published = RUNS[run]
    sizes = remaining_blocks(side * side, steps, curve)
    return ARPGDecoder(model, guidance or published, sizes, side)


@pytest.mark.parametrize("name", [name for name in GOLDEN.arrays if name.startswith("sizes_")])
def test_schedules_are_the_published_ones(name):
    _, curve, tokens, steps = name.split("_")
    assert remaining_blocks(int(tokens), int(steps), CURVES[curve]) == GOLDEN.sizes(name)


@pytest.mark.parametrize("run", RUNS)
def test_blocks_and_guidance_of_the_runs(run):
    side, steps, curve, guidance = RUNS[run]
    sizes = remaining_blocks(side * side, steps, curve)
    assert sizes == GOLDEN.sizes(f"{run}_block_sizes")
    per_token = np.repeat(GOLDEN.arrays[f"{run}_scales"], sizes)
    np.testing.assert_allclose(guidance.scales(sizes), per_token, rtol=1e-12)


@pytest.mark.parametrize("curve", CURVES.values())
@pytest.mark.parametrize(("tokens", "steps"), [(4, 0), (4, 5)])
def test_more_steps_than_tokens_are_refused(curve, tokens, steps):
    with pytest.raises(ValueError, match="cannot be drawn"):
        remaining_blocks(tokens, steps, curve)


@pytest.mark.parametrize("curve", CURVES.values())
def test_blocks_are_never_empty(curve):
    for tokens in (1, 4, 16, 64, 256):
        for steps in range(1, min(tokens, 70) + 1):
            sizes = remaining_blocks(tokens, steps, curve)
            assert len(sizes) == steps and sum(sizes) == tokens and min(sizes) >= 1


@pytest.mark.parametrize("name", [name for name in GOLDEN.arrays if name.startswith("order256")])
def test_order_of_the_released_code(name):
    seed, batch = (part.lstrip("sedbatch") for part in name.split("_")[1:])
    assert torch.equal(published_order(int(seed), int(batch), 256), GOLDEN[name])


def test_phases_of_the_grid():
    close(rotary_table(CONFIG.size(8)), GOLDEN["rotary_table64"], atol=1e-6)


def test_teacher_forcing(model):
    hidden = {}
    hooks = [
        block.register_forward_hook(lambda *args, name=name: hidden.update({name: args[2]}))
        for kind, blocks in (("self", model.layers.self_dec), ("cross", model.layers.cross_dec))
        for name, block in ((f"{kind}{i}", block) for i, block in enumerate(blocks))
    ]
    codes, order = GOLDEN["teacher64_codes"], GOLDEN["teacher64_order"]
    logits = model.teacher_forced(GOLDEN["labels"], codes, order)
    for hook in hooks:
        hook.remove()
    close(logits, GOLDEN["teacher64_logits"])
    loss = F.cross_entropy(logits.flatten(0, 1), codes.gather(1, order).flatten())
    close(loss, GOLDEN["teacher64_loss"])
    assert len(hidden) == 4
    for name, x_BTC in hidden.items():
        close(x_BTC, GOLDEN[f"teacher64_hidden_{name}"])
    null = torch.full((2,), CONFIG.classes)
    close(model.teacher_forced(null, codes, order), GOLDEN["teacher64_logits_uncond"])


@pytest.mark.parametrize("run", RUNS)
def test_greedy_codes_and_logits(model, run):
    decoder = decoder_of(model, run)
    orders = GOLDEN[f"{run}_order"].expand(2, -1)
    blocks = []
    codes = decode(
        decoder,
        GOLDEN["labels"],
        torch.zeros(2, decoder.tokens),
        orders,
        GREEDY,
        lambda block: blocks.append(block.logits_BnV.clone()),
    )
    assert torch.equal(codes, GOLDEN[f"{run}_codes"])
    assert len(blocks) == decoder.steps == RUNS[run][1]
    for half, scale in (("cond", 1.0), ("uncond", 0.0)):
        forced = forced_logits(
            decoder_of(model, run, Constant(scale)), GOLDEN["labels"], codes, orders
        )
        recorded = 0
        for step, (first, last) in enumerate(decoder.ends):
            key = f"{run}_step{step}_logits_{half}"
            if key in GOLDEN:
                recorded += 1
                close(forced[:, first:last], GOLDEN[key])
        assert recorded or run == "gen256_firstrelease"


@pytest.mark.parametrize("run", ["gen64_linear5", "gen64_constant4_cosine", "gen256_linear5"])
def test_guided_logits(model, run):
    decoder = decoder_of(model, run)
    codes, orders = GOLDEN[f"{run}_codes"], GOLDEN[f"{run}_order"].expand(2, -1)
    guided = forced_logits(decoder, GOLDEN["labels"], codes, orders)
    for step, (first, last) in enumerate(decoder.ends):
        key = f"{run}_step{step}_logits"
        if f"{key}_cond" in GOLDEN:
            c, u = GOLDEN[f"{key}_cond"], GOLDEN[f"{key}_uncond"]
            scale = float(GOLDEN[f"{run}_scales"][step])
            close(guided[:, first:last], u + scale * (c - u))


def test_decoding_one_token_a_call_equals_teacher_forcing(model):
    """With larger blocks it does not, since tokens of a block see each other."""
    labels, codes, order = (
        GOLDEN["labels"],
        GOLDEN["teacher64_codes"],
        GOLDEN["teacher64_order"],
    )
    expected = model.teacher_forced(labels, codes, order)
    single = forced_logits(ARPGDecoder(model, OFF, (1,) * 64, 8), labels, codes, order)
    close(single, expected, atol=2e-5)
    blocks = forced_logits(decoder_of(model, "gen64_off"), labels, codes, order)
    assert (blocks - expected).abs().max() > 0.1


def test_a_step_makes_one_call_of_the_tokens_before(model):
    decoder, seen = decoder_of(model, "gen256_linear5"), []
    orders = GOLDEN["gen256_linear5_order"].expand(20, -1)
    hook = model.layers.self_dec[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape[:2]))
    )
    decode(decoder, torch.zeros(20, dtype=torch.int64), torch.zeros(20, 256), orders)
    hook.remove()
    sizes = GOLDEN.sizes("gen256_linear5_block_sizes")
    assert seen == [(40, n) for n in (1, *sizes[:-1])]


@pytest.mark.parametrize("guidance", [OFF, Linear(last=5.0, count="with block")])
def test_an_image_is_the_same_in_any_batch(model, guidance):
    def draw(indices):
        generators = [np.random.default_rng(int(i)) for i in indices]
        uniforms = np.stack([generator.random(64, np.float32) for generator in generators])
        orders = np.stack([generator.permutation(64) for generator in generators])
        logits = []
        decode(
            decoder_of(model, "gen64_off", guidance),
            torch.from_numpy(indices % CONFIG.classes),
            torch.from_numpy(uniforms),
            torch.from_numpy(orders),
            observe=lambda block: logits.append(block.logits_BnV.clone()),
        )
        return torch.cat(logits, dim=1)

    check_batches(draw)


def test_full_size_has_the_tensors_of_the_released_file():
    with torch.device("meta"):
        model = ARPG(ARPGConfig())
    assert tensors_of(model) == GOLDEN.full_size()
    published = GOLDEN.config["published"]
    assert read_config(published, ARPGConfig, "config.json") == ARPGConfig()
    assert sum(x.numel() for x in model.parameters()) == published["parameters"]


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", None])
def test_files(tmp_path, wrapper):
    def load(path):
        return load_arpg(path, CONFIG)

    check_refusals(load, GOLDEN.weights, tmp_path)
    check_pickle(load, GOLDEN.weights, tmp_path, wrapper)
