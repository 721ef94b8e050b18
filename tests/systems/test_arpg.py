"""ARPG: its schedules, orders and decoding against the golden data."""

import numpy as np
import pytest
import torch

from pcb.order.remaining import remaining_blocks
from pcb.published.guidance import OFF, Constant, Linear
from pcb.sample.decoder import forced_logits
from pcb.sample.sampler import sample_with_logits
from pcb.systems.arpg import ARPG, ARPGConfig, ARPGDecoder, load_arpg
from pcb.systems.parity.comparison import compare
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
CURVES = ("arccos", "cosine", "first release")
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


def test_every_recorded_value_agrees():
    rows = compare(GOLDEN.folder)
    assert not [row for row in rows if not row.passes]
    exact = {row.quantity for row in rows if row.tolerance == 0}
    assert exact >= {
        *(f"{run}_{part}" for run in RUNS for part in ("codes", "order", "block_sizes")),
        *(
            f"sizes_{curve}_256_{n}"
            for curve in ("arccos", "cosine", "firstrelease")
            for n in (32, 64)
        ),
        *(f"order256_seed{seed}_batch{n}" for seed in range(3) for n in (2, 8)),
    }
    assert {row.quantity for row in rows} - exact >= {
        "rotary_table64", "teacher64_logits", "teacher64_logits_uncond", "teacher64_loss",
        "teacher64_hidden_self1", "teacher64_hidden_cross0", "gen256_firstrelease_scales",
        "gen256_linear5_step31_logits_cond", "gen64_off_step1_logits_uncond",
    }  # fmt: skip


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(("tokens", "steps"), [(4, 0), (4, 5)])
def test_more_steps_than_tokens_are_refused(curve, tokens, steps):
    with pytest.raises(ValueError, match="cannot be sampled"):
        remaining_blocks(tokens, steps, curve)


@pytest.mark.parametrize("curve", CURVES)
def test_blocks_are_never_empty(curve):
    for tokens in (1, 4, 16, 64, 256):
        for steps in range(1, min(tokens, 70) + 1):
            sizes = remaining_blocks(tokens, steps, curve)
            assert len(sizes) == steps and sum(sizes) == tokens and min(sizes) >= 1


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
    sample_with_logits(decoder, torch.zeros(20, dtype=torch.int64), torch.zeros(20, 256), orders)
    hook.remove()
    sizes = GOLDEN.sizes("gen256_linear5_block_sizes")
    assert seen == [(40, n) for n in (1, *sizes[:-1])]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("guidance", [OFF, Linear(last=5.0, count="with block")])
def test_an_image_is_the_same_in_any_batch(model, guidance):
    def sample(indices):
        generators = [np.random.default_rng(int(i)) for i in indices]
        uniforms = np.stack([generator.random(64, np.float32) for generator in generators])
        orders = np.stack([generator.permutation(64) for generator in generators])
        _, logits = sample_with_logits(
            decoder_of(model, "gen64_off", guidance),
            torch.from_numpy(indices % CONFIG.classes),
            torch.from_numpy(uniforms),
            torch.from_numpy(orders),
        )
        return torch.cat(logits, dim=1)

    check_batches(sample)


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
