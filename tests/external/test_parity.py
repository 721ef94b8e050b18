"""The released layout: recorded values, strict loading, and every configuration of it."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pcb.errors import UserError
from pcb.external.autoencoder import read_checkpoint
from pcb.external.parity import compare, main
from pcb.external.released import TRANSFORMER_NAMES, load_released

REFERENCE = Path(__file__).parents[1] / "reference"
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
