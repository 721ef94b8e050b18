"""VAR and its tokenizer against the golden data."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pcb.errors import UserError
from pcb.published.guidance import OFF, Ramp
from pcb.sample.decoder import forced_logits
from pcb.sample.filter import Filter
from pcb.sample.sampler import sample_with_logits
from pcb.systems.parity.comparison import compare
from pcb.systems.var import VAR, VARConfig, load_var
from pcb.systems.var_decoding import VARDecoder, by_scale
from pcb.systems.var_quantizer import VARTokenizerConfig
from pcb.systems.var_tokenizer import VARTokenizer, load_var_tokenizer
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


@pytest.fixture(scope="module")
def model():
    return load_var(GOLDEN.weights, CONFIG)


@pytest.fixture(scope="module")
def tokenizer():
    return load_var_tokenizer(VAE, TOKENIZER)


def test_every_recorded_value_agrees():
    rows = compare(GOLDEN.folder)
    assert not [row for row in rows if not row.passes]
    exact = {row.quantity for row in rows if row.tolerance == 0}
    assert exact == {
        "phi_index_10_scales",
        "gen_off_codes",
        "gen_cfg1.5_codes",
        *(f"encoded_codes_{side}" for side in SCALES),
    }
    assert {row.quantity for row in rows} - exact >= {
        "encoder_feature", "encoded_fhat_scale1", "encoded_fhat_scale3", "encoded_fhat_last",
        "reconstructed_image", "decoded_from_encoded_codes", "teacher_input", "teacher_logits",
        "teacher_logits_uncond", "teacher_hidden_block1_sample0", "teacher_fhat_scale4",
        "gen_cfg1.5_image", "gen_cfg1.5_fhat", "gen_cfg1.5_step9_probs_filtered",
        "gen_cfg1.5_step1_logits_guided", "gen_cfg1.5_step0_logits_uncond",
    }  # fmt: skip


def test_a_call_has_the_tokens_of_a_scale(model, tokenizer):
    """The decoder's own sum is what the codes' vectors add up to."""
    decoder, seen = VARDecoder(model, Ramp(1.5), tokenizer.quantize), []
    hook = model.register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape[:2]))
    )
    codes, _ = sample_with_logits(decoder, torch.arange(8), torch.rand(8, CONFIG.tokens))
    hook.remove()
    assert seen == [(16, side * side) for side in SCALES]
    assert len(seen) == decoder.steps == 10
    *_, sum_BDhw = tokenizer.quantize.sums(by_scale(codes, SCALES))
    assert torch.equal(decoder.sum_BDhw, sum_BDhw)


def test_decoding_equals_teacher_forcing(model, tokenizer):
    codes = GOLDEN["teacher_codes"]
    decoder = VARDecoder(model, OFF, tokenizer.quantize)
    stepwise = forced_logits(decoder, GOLDEN["labels"], codes)
    inputs = tokenizer.quantize.inputs(by_scale(codes, SCALES))
    close(stepwise, model.teacher_forced(GOLDEN["labels"], inputs), atol=2e-5)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("guidance", [OFF, Ramp(1.5)])
def test_an_image_is_the_same_in_any_batch(model, tokenizer, guidance):
    def sample(indices):
        numbers = [np.random.default_rng(i).random(CONFIG.tokens, np.float32) for i in indices]
        decoder = VARDecoder(model, guidance, tokenizer.quantize)
        _, logits = sample_with_logits(
            decoder,
            torch.from_numpy(indices % CONFIG.classes),
            torch.from_numpy(np.stack(numbers)),
            filter=Filter(top_k=30, top_p=0.96),
        )
        return torch.cat([*logits, decoder.sum_BDhw.flatten(1)[..., None].expand(-1, -1, 64)], 1)

    check_batches(sample)


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
