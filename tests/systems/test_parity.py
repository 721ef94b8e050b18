"""Recorded folders of any size, and what is out."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pcb.errors import UserError
from pcb.systems.family import FAMILY
from pcb.systems.parity import family as family_parity
from pcb.systems.parity.comparison import compare
from pcb.systems.parity.recording import read_recording
from tests.recorded import PEERS
from tests.systems.family import FOLDERS, orders_of, tiny

SYSTEMS = tuple(FAMILY)


@pytest.fixture
def copy(tmp_path):
    """A copy of a recorded folder that a test may spoil."""
    return shutil.copytree(PEERS / "nar", tmp_path / "nar")


def out(folder):
    return {row.quantity for row in compare(folder) if not row.passes}


@torch.inference_mode()
def record(folder, system, **size):
    """Write a folder of another size than the recorded ones: what is computed of it now."""
    model = tiny(system, **size)
    save_file(dict(model.state_dict()), folder / "weights.safetensors")
    config = {
        "peer": system,
        "tiny": {**to_builtins(model.size), "steps": 5},
        "runs": {
            "off": {"guidance": "off"},
            "strong": {"guidance": {"kind": "constant", "scale": 3}},
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    arrays = {
        "labels": torch.tensor([4, 0]),
        "codes": torch.randint(model.size.codes, (2, model.size.tokens)),
    }
    if system == "RandAR":
        arrays["order"] = orders_of(system, model, 2)
    np.savez(folder / "expected.npz", **{name: x.numpy() for name, x in arrays.items()})
    arrays |= dict(family_parity.quantities(read_recording(folder)))
    np.savez(folder / "expected.npz", **{name: x.numpy() for name, x in arrays.items()})
    return folder


def to_builtins(size):
    return {name: getattr(size, name) for name in size.__struct_fields__}


@pytest.mark.parametrize("system", SYSTEMS)
def test_folders_of_any_size_are_compared(system, tmp_path):
    folder = record(tmp_path, system, side=8, width=24, blocks=1, codes=40)
    rows = {row.quantity: row for row in compare(folder)}
    assert all(row.passes for row in rows.values())
    assert rows.keys() >= {"rope", "greedy_off_codes", "greedy_strong_uncond_logits"}
    tensors = load_file(folder / "weights.safetensors")
    tensors["output.weight"][3] += 1
    save_file(tensors, folder / "weights.safetensors")
    assert {"teacher_forced_logits", "greedy_off_logits"} <= out(folder)
    assert not {"rope", "teacher_forced_block_0"} & out(folder)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_norm_with_another_eps_is_out(system, tmp_path):
    folder = shutil.copytree(PEERS / FOLDERS[system], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["tiny"]["norm_eps"] = 1e-6
    (folder / "config.json").write_text(json.dumps(config))
    assert {"teacher_forced_logits", "greedy_cfg_logits"} <= out(folder)


def test_a_quantity_that_nobody_can_compute_is_out(copy):
    with np.load(copy / "expected.npz") as file:
        arrays = dict(file)
    np.savez(copy / "expected.npz", **arrays, surprise=np.zeros(3))
    assert out(copy) == {"surprise"}


def test_one_wrong_code_or_another_shape_is_out(copy):
    with np.load(copy / "expected.npz") as file:
        arrays = dict(file)
    arrays["greedy_cfg_codes"][2, 35] += 1
    arrays["rope"] = arrays["rope"][:-1]
    arrays["teacher_forced_block_1"][0, 0, 0] = np.nan
    np.savez(copy / "expected.npz", **arrays)
    assert out(copy) == {"greedy_cfg_codes", "rope", "teacher_forced_block_1"}


def test_a_folder_without_recorded_values_must_load(copy):
    (copy / "expected.npz").unlink()
    assert compare(copy) == []
    shutil.copy(PEERS / "llamagen" / "weights.safetensors", copy)
    with pytest.raises(UserError, match="tensors do not fit"):
        compare(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "no `peer`"),
        ('{"peer": "NAR"}', "no `tiny`"),
        ('{"peer": "DiT"}', "peer 'DiT' is none of LlamaGen, "),
        ("[1]", "expected an object"),
        ("{", "not JSON"),
    ],
)
def test_a_wrong_description_is_refused(copy, content, message):
    (copy / "config.json").write_text(content)
    with pytest.raises(UserError, match=rf"config\.json: {message}"):
        compare(copy)


def test_unknown_guidance_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["runs"]["cfg"]["guidance"] = {"kind": "curved"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="'curved'.*is not known"):
        compare(copy)


def test_recorded_arrays_are_never_pickles(copy):
    np.savez(copy / "expected.npz", labels=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"expected\.npz: not a readable .npz"):
        compare(copy)
