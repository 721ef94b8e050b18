"""Recorded folders of ARPG, LPD and VAR: what is out, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pcb.errors import UserError
from pcb.systems.parity.comparison import compare
from tests.recorded import PEERS

SYSTEMS = ("arpg", "lpd", "var")


@pytest.fixture
def copy(request, tmp_path):
    """A copy of a recorded folder that a test may spoil."""
    return shutil.copytree(PEERS / request.param, tmp_path / request.param)


def out(folder):
    return {row.quantity for row in compare(folder) if not row.passes}


@pytest.mark.parametrize(
    ("copy", "logits"),
    [
        ("arpg", {"teacher64_logits", "gen64_off_step0_logits_cond"}),
        ("lpd", {"teacher_logits", "gen_off_step0_logits_guided"}),
        ("var", {"teacher_logits", "gen_off_step0_logits_cond"}),
    ],
    indirect=["copy"],
)
def test_other_weights_are_out(copy, logits):
    tensors = load_file(copy / "weights.safetensors")
    tensors["head.weight"][3] += 0.1
    save_file(tensors, copy / "weights.safetensors")
    found = out(copy)
    assert found >= logits
    assert not any("hidden" in name or "sizes" in name or "encoded" in name for name in found)


@pytest.mark.parametrize("copy", SYSTEMS, indirect=True)
def test_a_quantity_that_nobody_can_compute_is_out(copy):
    with np.load(copy / "expected.npz") as file:
        arrays = dict(file)
    np.savez(copy / "expected.npz", **arrays, surprise=np.zeros(3), sizes_straight_64_8=np.ones(8))
    assert out(copy) == {"surprise", "sizes_straight_64_8"}


@pytest.mark.parametrize("copy", SYSTEMS, indirect=True)
def test_a_folder_without_recorded_values_must_load(copy):
    (copy / "expected.npz").unlink()
    assert compare(copy) == []
    shutil.copy(PEERS / "var" / "vae.safetensors", copy / "weights.safetensors")
    with pytest.raises(UserError, match=r"tensors do not fit"):
        compare(copy)


@pytest.mark.parametrize(
    ("copy", "path", "value", "message"),
    [
        ("arpg", ("runs", "gen64_off", "schedule"), "straight", "the run gen64_off is not known"),
        ("arpg", ("runs", "gen64_off", "guidance"), {"kind": "odd", "scale": 1}, "is not known"),
        ("arpg", ("tiny", "width"), 66, "not a multiple"),
        ("lpd", ("runs", "gen_off", "guidance"), {}, "is not known"),
        ("lpd", ("tiny", "heads"), 3, "not a multiple"),
        ("var", ("runs", "gen_off", "guidance"), "none", "is not known"),
        ("var", ("tiny", "scales"), [2, 1], "do not grow"),
        ("var", ("tokenizer",), None, "are to be objects"),
        ("var", ("tokenizer", "group_norm_groups"), 5, "are not in 5 groups"),
    ],
    indirect=["copy"],
)
def test_a_wrong_description_is_refused(copy, path, value, message):
    config = json.loads((copy / "config.json").read_text())
    part = config
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"config\.json.*{message}"):
        compare(copy)
