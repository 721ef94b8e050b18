"""VAR and its tokenizer against the golden data."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pcb.errors import UserError
from pcb.systems.base import decode, forced_logits
from pcb.systems.filter import GREEDY, Filter, filtered
from pcb.systems.guidance import OFF, Ramp
from pcb.systems.var import VAR, VARConfig, load_var
from pcb.systems.var_decoding import VARDecoder, by_scale
from pcb.systems.var_tokenizer import (
    VARTokenizer,
    VARTokenizerConfig,
    load_var_tokenizer,
    phi_indices,
)
from pcb.systems.weights import read_config
from tests.systems.golden import (
    Golden,
    check_batches,
    check_pickle,
    check_refusals,
    close,
    tensors_of,
)

GOLDEN = Golden("var")
SCALES = GOLDEN.sizes("scales")
TINY = GOLDEN.config["tiny"]
CONFIG = read_config(
    TINY | {"code_width": GOLDEN.config["tokenizer"]["code_width"]}, VARConfig, "config.json"
)
TOKENIZER = read_config(
    GOLDEN.config["tokenizer"] | {"scales": SCALES}, VARTokenizerConfig, "config.json"
)
VAE = GOLDEN.folder / "vae.safetensors"
RUNS = {"off": OFF, "cfg1.5": Ramp(1.5)}


@pytest.fixture(scope="module")
def model():
    return load_var(GOLDEN.weights, CONFIG)


@pytest.fixture(scope="module")
def tokenizer():
    return load_var_tokenizer(VAE, TOKENIZER)


def test_smoothing_convolutions_of_the_scales():
    assert phi_indices(10, 4) == GOLDEN.sizes("phi_index_10_scales")


def test_encoding(tokenizer):
    features = tokenizer.features(GOLDEN["image"])
    close(features, GOLDEN["encoder_feature"])
    codes = tokenizer.encode(GOLDEN["image"])
    for side, codes_BP in zip(SCALES, codes, strict=True):
        assert torch.equal(codes_BP, GOLDEN[f"encoded_codes_{side}"])
    sums = list(tokenizer.quantize.sums(codes))
    for side, f_BChw in zip(SCALES, sums, strict=True):
        if f"encoded_fhat_scale{side}" in GOLDEN:
            close(f_BChw, GOLDEN[f"encoded_fhat_scale{side}"], atol=1e-5)
    close(sums[-1], GOLDEN["encoded_fhat_last"], atol=1e-5)


def test_decoding(tokenizer):
    codes = [GOLDEN[f"encoded_codes_{side}"] for side in SCALES]
    close(tokenizer.decode(codes), GOLDEN["decoded_from_encoded_codes"], atol=1e-5)
    close(tokenizer.decode(codes), GOLDEN["reconstructed_image"], atol=1e-5)


def test_sums_and_inputs_of_given_codes(tokenizer):
    codes = by_scale(GOLDEN["teacher_codes"], SCALES)
    sums = list(tokenizer.quantize.sums(codes))
    for side, f_BChw in zip(SCALES, sums, strict=True):
        if f"teacher_fhat_scale{side}" in GOLDEN:
            close(f_BChw, GOLDEN[f"teacher_fhat_scale{side}"], atol=1e-5)
    close(sums[-1], GOLDEN["teacher_fhat_last"], atol=1e-5)
    close(tokenizer.decode(codes), GOLDEN["teacher_image"], atol=1e-5)
    close(tokenizer.quantize.inputs(codes), GOLDEN["teacher_input"], atol=1e-5)


def test_teacher_forcing(model):
    hidden = []
    hooks = [
        block.register_forward_hook(lambda *args: hidden.append(args[2][0]))
        for block in model.blocks
    ]
    logits = model.teacher_forced(GOLDEN["labels"], GOLDEN["teacher_input"])
    for hook in hooks:
        hook.remove()
    close(logits, GOLDEN["teacher_logits"])
    null = torch.tensor([CONFIG.classes])
    close(model.teacher_forced(null, GOLDEN["teacher_input"][:1]), GOLDEN["teacher_logits_uncond"])
    assert len(hidden) == 2
    for i, x_TC in enumerate(hidden):
        close(x_TC, GOLDEN[f"teacher_hidden_block{i}_sample0"])


@pytest.mark.parametrize("run", RUNS)
def test_greedy_codes_logits_and_images(model, tokenizer, run):
    decoder = VARDecoder(model, RUNS[run], tokenizer.quantize)
    calls, blocks = [], []
    hook = model.register_forward_pre_hook(lambda *_: calls.append(1))
    codes = decode(
        decoder,
        GOLDEN["labels"],
        torch.zeros(2, CONFIG.tokens),
        filter=GREEDY,
        observe=lambda block: blocks.append(block.logits_BnV.clone()),
    )
    hook.remove()
    assert torch.equal(codes, GOLDEN[f"gen_{run}_codes"])
    assert len(calls) == decoder.steps == 10
    close(decoder.sum_BDhw, GOLDEN[f"gen_{run}_fhat"], atol=1e-5)
    image = (tokenizer.decode_sum(decoder.sum_BDhw) + 1) / 2
    close(image, GOLDEN[f"gen_{run}_image"], atol=1e-5)
    assert torch.equal(
        tokenizer.decode_sum(decoder.sum_BDhw), tokenizer.decode(by_scale(codes, SCALES))
    )
    name = "guided" if run != "off" else "cond"
    recorded = [k for k in range(10) if f"gen_{run}_step{k}_logits_{name}" in GOLDEN]
    assert recorded
    for k in recorded:
        close(blocks[k], GOLDEN[f"gen_{run}_step{k}_logits_{name}"])


def test_logits_of_both_halves(model, tokenizer):
    decoder = VARDecoder(model, OFF, tokenizer.quantize)
    null = torch.full((2,), CONFIG.classes)
    for name, labels in (("cond", GOLDEN["labels"]), ("uncond", null)):
        logits = forced_logits(decoder, labels, GOLDEN["gen_cfg1.5_codes"])
        for k, logits_BnV in enumerate(logits.split(CONFIG.sizes, dim=1)):
            if f"gen_cfg1.5_step{k}_logits_{name}" in GOLDEN:
                close(logits_BnV, GOLDEN[f"gen_cfg1.5_step{k}_logits_{name}"])


def test_filter_after_guidance():
    shown = GOLDEN.config["runs"]["gen_cfg1.5"]["filter_shown_in_probs"]
    filter = Filter(top_k=shown["top_k"], top_p=shown["top_p"])
    probabilities = filtered(GOLDEN["gen_cfg1.5_step9_logits_guided"], filter).softmax(-1)
    close(probabilities, GOLDEN["gen_cfg1.5_step9_probs_filtered"], atol=1e-6)


def test_decoding_equals_teacher_forcing(model, tokenizer):
    codes = GOLDEN["teacher_codes"]
    decoder = VARDecoder(model, OFF, tokenizer.quantize)
    stepwise = forced_logits(decoder, GOLDEN["labels"], codes)
    inputs = tokenizer.quantize.inputs(by_scale(codes, SCALES))
    close(stepwise, model.teacher_forced(GOLDEN["labels"], inputs), atol=2e-5)


@pytest.mark.parametrize("guidance", [OFF, Ramp(1.5)])
def test_an_image_is_the_same_in_any_batch(model, tokenizer, guidance):
    def draw(indices):
        numbers = [np.random.default_rng(i).random(CONFIG.tokens, np.float32) for i in indices]
        decoder = VARDecoder(model, guidance, tokenizer.quantize)
        logits = []
        decode(
            decoder,
            torch.from_numpy(indices % CONFIG.classes),
            torch.from_numpy(np.stack(numbers)),
            filter=Filter(top_k=30, top_p=0.96),
            observe=lambda block: logits.append(block.logits_BnV.clone()),
        )
        return torch.cat([*logits, decoder.sum_BDhw.flatten(1)[..., None].expand(-1, -1, 64)], 1)

    check_batches(draw)


def test_full_size_has_the_tensors_of_the_released_files():
    with torch.device("meta"):
        model, tokenizer = VAR(VARConfig()), VARTokenizer(VARTokenizerConfig())
    assert tensors_of(model) == GOLDEN.full_size()
    assert tensors_of(tokenizer) == GOLDEN.full_size("full_state_dict_vae.json")
    published = GOLDEN.config["published"]
    assert read_config(published, VARConfig, "config.json") == VARConfig()
    for module, name in ((model, "parameters"), (tokenizer, "tokenizer_parameters")):
        assert sum(x.numel() for x in module.parameters()) == published[name]


def test_files(tmp_path):
    def load(path):
        return load_var(path, CONFIG)

    check_refusals(load, GOLDEN.weights, tmp_path)
    check_pickle(load, GOLDEN.weights, tmp_path, None)


def test_files_of_the_tokenizer(tmp_path):
    def load(path):
        return load_var_tokenizer(path, TOKENIZER)

    check_refusals(load, VAE, tmp_path)
    check_pickle(load, VAE, tmp_path, None)


def test_the_first_release_is_refused(tmp_path):
    """It had no learned scale of the queries."""
    state = load_file(GOLDEN.weights)
    old = {name: x for name, x in state.items() if "scale_mul_1H11" not in name}
    save_file(old, tmp_path / "old.safetensors")
    with pytest.raises(UserError, match="file of before 2024-04-15"):
        load_var(tmp_path / "old.safetensors", CONFIG)


@pytest.mark.parametrize("name", ["lvl_1L", "attn_bias_for_masking", "blocks.1.attn.zero_k_bias"])
def test_buffers_of_another_layout_are_refused(tmp_path, name):
    state = load_file(GOLDEN.weights)
    state[name] = state[name] + 1
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=name.rpartition(".")[2]):
        load_var(tmp_path / "other.safetensors", CONFIG)
