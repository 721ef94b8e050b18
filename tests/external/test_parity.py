"""The released layout: recorded values, strict loading, and every configuration of it."""

import argparse
import shutil

import numpy as np
import pytest
import torch
import yaml

from pcb.errors import UserError
from pcb.external.autoencoder import read_checkpoint
from pcb.external.parity import compare, main
from pcb.external.released import load_released
from pcb.external.tensor_names import TRANSFORMER_NAMES
from tests.recorded import REFERENCE

FOLDERS = ["tiny-2x", "tiny-3x", "class-row-2x"]


@pytest.fixture
def copy(tmp_path):
    """A copy of a reference folder that a test may spoil."""
    shutil.copytree(REFERENCE / "tiny-2x", tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder, **changes):
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"].update(changes)
    path.write_text(yaml.safe_dump(config))


def edit_tensors(folder, edit):
    path = folder / "checkpoint-last.pth"
    content = read_checkpoint(path)
    edit(content["model"])
    torch.save(content, path)


@pytest.mark.parametrize("name", FOLDERS)
def test_recorded_values_agree(name, capsys):
    assert main(REFERENCE / name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["quantity", "largest", "error", "tolerance"]
    assert "OUT" not in "".join(lines)
    assert {line.split()[0] for line in lines[1:-1]} >= {
        "codes_8", "encoded", "decoded", "teacher_forced_logits", "greedy_cfg1.5_codes_8",
    }  # fmt: skip


def test_a_changed_weight_is_out(copy, capsys):
    def edit(tensors):
        tensors["lm_head.bias"][3] += 1.0

    edit_tensors(copy, edit)
    assert main(copy) == 1
    assert "OUT" in capsys.readouterr().out
    failed = {row.quantity for row in compare(copy) if not row.passes}
    assert "teacher_forced_logits" in failed
    assert "codes_8" not in failed


def test_a_folder_without_recorded_values_only_loads(copy, capsys):
    (copy / "expected.npz").unlink()
    assert main(copy) == 0
    assert "no expected.npz" in capsys.readouterr().out


def test_weights_of_another_ratio_are_refused_by_name(copy):
    edit_config(copy, scale_ratio=3)
    with pytest.raises(UserError, match=r"checkpoint-last\.pth.*position_embedding\.weight"):
        load_released(copy)


def test_missing_and_foreign_tensors_are_refused_by_name(copy):
    def edit(tensors):
        tensors["surprise"] = tensors.pop("lm_head.bias")

    edit_tensors(copy, edit)
    with pytest.raises(UserError, match=r"(?s)head\.bias.*surprise"):
        load_released(copy)


def test_another_codebook_is_refused(copy):
    def edit(tensors):
        tensors["autoenc.quantize.embedding.parametrizations.weight.original"].neg_()

    edit_tensors(copy, edit)
    with pytest.raises(UserError, match="another codebook"):
        load_released(copy)


class Payload:
    """What a hostile pickle would hold: anything outside the allow-list."""


@pytest.mark.parametrize("content", [{"model": Payload()}, argparse.Namespace(a=1)])
def test_pickles_of_anything_else_are_refused(copy, content):
    torch.save(content, copy / "checkpoint-last.pth")
    with pytest.raises(UserError, match=r"checkpoint-last\.pth"):
        load_released(copy)


def test_a_truncated_checkpoint_is_refused(copy):
    path = copy / "checkpoint-last.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_released(copy)


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({"num_mixing_layers": 0}, (1, 2, 4, 8)),
        ({"num_mixing_layers": 3}, (1, 2, 4, 8)),
        ({"single_scale": True}, (8,)),
        ({"scale_ratio": 1.5}, (1, 2, 4, 5, 8)),
        ({"use_head_mlp": True}, (1, 2, 4, 8)),
    ],
)
def test_every_configuration_of_the_layout_loads(copy, changes, sizes):
    edit_config(copy, **changes)
    tokens = sum(size * size for size in sizes)

    def edit(tensors):
        tensors["embed_positions.weight"] = torch.randn(tokens, 64)
        name = "llama.rotary_emb.position_embeddings.parametrizations.weight.original"
        tensors[name] = torch.randn(tokens + 2, 32)
        layers = changes.get("num_mixing_layers", 2)
        tensors["llama.rotary_emb.mixing_coeffs"] = torch.randn(layers, 4)
        if changes.get("use_head_mlp"):
            for i, shape in ((0, (64, 8)), (2, (64, 64)), (4, (64, 64))):
                tensors[f"head_mlp.net.{i}.weight"] = torch.randn(shape)
            for i in (0, 2):
                tensors[f"head_mlp.net.{i}.bias"] = torch.randn(64)

    edit_tensors(copy, edit)
    model = load_released(copy).transformer
    assert model.sizes == sizes
    assert model.rotary.mixing.shape[0] == changes.get("num_mixing_layers", 2)
    assert (model.head_mlp is not None) == bool(changes.get("use_head_mlp"))


def test_recorded_arrays_are_never_pickles(copy):
    path = copy / "expected.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "labels": np.array([Payload()], dtype=object)})
    with pytest.raises(ValueError, match="pickle"):
        compare(copy)


def test_released_names_are_one_to_one():
    names = [ours for _, ours in TRANSFORMER_NAMES]
    assert len(names) == len(set(names))


def released(copy):
    """Load a folder that does not fit; return the one line that says why."""
    with pytest.raises(UserError) as caught:
        load_released(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)
    return str(caught.value)


LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_size": "big"}, "model.img_size = 'big': expected `int`, got `str`"),
        ({"img_size": None}, "model.img_size = None: expected `int`"),
        ({"img_size": 0}, "model.img_size = 0: expected 1 to 4096"),
        ({"img_size": 10**9}, "model.img_size = 1000000000: expected 1 to 4096"),
        (
            {"img_size": 33},
            "model.img_size = 33: expected a multiple of the autoencoder's stride 4",
        ),
        ({"img_size": [32]}, "model.img_size = [32]: expected `int`, got `array`"),
        ({"num_classes": -1}, "model.num_classes = -1: expected at least 1"),
        ({"num_classes": 2.5}, "model.num_classes = 2.5: expected `int`"),
        ({"class_cond": "yes"}, "model.class_cond = 'yes': expected `bool`"),
        ({"scale_ratio": "two"}, "model.scale_ratio = 'two': expected `float`"),
        ({"scale_ratio": 1}, "model.scale_ratio = 1.0: expected `float` > 1"),
        ({"scale_ratio": [2]}, "model.scale_ratio = [2]: expected `float`"),
        ({"scale_min_size": 0}, "model.min_size = 0: expected `int` >= 1"),
        ({"num_mixing_layers": 9}, "9 mixing layers in a model of 3"),
        ({"use_head_mlp": 1}, "model.use_head_mlp = 1: expected `bool`"),
        ({"llama_config": [1]}, "model.llama_config = [1]: expected a mapping"),
        ({"llama_config": {**LLAMA, "hidden_size": 63}}, "width 63 must be an even multiple"),
        (
            {"llama_config": {**LLAMA, "num_hidden_layers": "3"}},
            "num_hidden_layers = '3': expected",
        ),
        ({"autoenc": "autoenc"}, "model.autoenc = 'autoenc': expected a mapping"),
        ({"autoenc": {"checkpoint_path": 3, "config_path": 4}}, "config_path = 4: expected `str`"),
        ({"autoenc": {"checkpoint_path": "x"}}, "no model.autoenc.config_path; is it a released"),
    ],
)
def test_every_wrong_value_of_the_config_is_one_line(copy, changes, message):
    edit_config(copy, **changes)
    assert message in released(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: 1", "expected a mapping with `model`"),
        ("model: {}", "no model.params.ddconfig.ch; is it"),
        ("model: {params: [1]}", "model.params = [1]: expected a mapping"),
        ("model: {params: {embed_dim: 8, n_embed: x, ddconfig: {}}}", "n_embed = 'x': expected"),
        ("model: {params: {embed_dim: 8, n_embed: 9, ddconfig: {ch: 33}}}", "norm_groups 32 must"),
        (
            "model: {params: {embed_dim: 8, n_embed: 9, ddconfig: {ch_mult: []}}}",
            "autoencoder.channel_multipliers = []: expected `array` of length >= 1",
        ),
        ("<!doctype html><html>", "a web page, not a configuration"),
    ],
)
def test_every_wrong_value_of_the_autoencoders_config_is_one_line(copy, text, message):
    (copy / "autoenc" / "autoencoder_config.yaml").write_text(text)
    assert message in released(copy)


ROWS = "llama.rotary_emb.position_embeddings.parametrizations.weight.original"
CODES = "autoenc.quantize.embedding.parametrizations.weight.original"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lm_head.bias", 3, "'lm_head.bias' is a int where a tensor belongs"),
        ("lm_head.bias", np.float64(3), "'lm_head.bias' is a float64 where a tensor belongs"),
        ("lm_head.bias", torch.arange(64), "head.bias int64 for float32"),
        (
            "lm_head.bias",
            torch.full((64,), float("nan")),
            "not finite (NaN or infinity) in head.bi",
        ),
        (ROWS, torch.zeros(()), "rotary.phases [] for"),
        (ROWS, torch.zeros(3, 5), "rotary.phases [3, 5] for"),
        (CODES, torch.zeros(3), "trained with another codebook"),
        (CODES, torch.zeros(64, 8, dtype=torch.int64), "trained with another codebook"),
    ],
)
def test_odd_values_of_a_checkpoint_are_one_line(copy, name, value, message):
    edit_tensors(copy, lambda tensors: tensors.update({name: value}))
    assert message in released(copy)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_converted_and_said(copy, kind, capsys):
    def halve(tensors):
        tensors.update({k: x.to(kind) for k, x in tensors.items() if x.is_floating_point()})

    edit_tensors(copy, halve)
    model = load_released(copy).transformer
    assert "converted to float32" in capsys.readouterr().out
    whole = load_released(REFERENCE / "tiny-2x").transformer
    assert all(
        x.dtype == torch.float32 for x in model.state_dict().values() if x.is_floating_point()
    )
    assert torch.equal(model.head.bias, whole.head.bias.to(kind).float())
