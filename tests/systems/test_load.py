"""Reading released files: strictly, safely, and by the names that they may have."""

import argparse
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pcb.errors import UserError
from pcb.systems.family import FAMILY, empty_model, load_model
from tests.recorded import PEERS
from tests.systems.family import FOLDERS

SYSTEMS = tuple(FAMILY)


def tensors_of(system):
    return load_file(PEERS / FOLDERS[system] / "weights.safetensors")


def load(system, path):
    config = json.loads((PEERS / FOLDERS[system] / "config.json").read_text())["tiny"]
    return load_model(empty_model(system, config, "tiny"), path)


def write(folder, tensors):
    path = folder / "weights.safetensors"
    save_file(tensors, path)
    return path


OWN = {
    "LlamaGen": "output.weight",
    "PAR": "spe_tok_embeddings.special_embeddings.weight",
    "RandAR": "pos_instruct_embeddings",
    "NAR": "medusa_norm.weight",
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_missing_an_unknown_and_a_wrong_tensor_are_refused_by_name(system, tmp_path):
    name, tensors = OWN[system], tensors_of(system)
    without = {key: x for key, x in tensors.items() if key != name}
    with pytest.raises(UserError, match=rf"weights\.safetensors.*1 missing: {name}$"):
        load(system, write(tmp_path, without))
    with pytest.raises(UserError, match="1 unknown: surprise$"):
        load(system, write(tmp_path, {**tensors, "surprise": torch.zeros(1)}))
    longer = torch.zeros(len(tensors[name]) + 1, *tensors[name].shape[1:])
    with pytest.raises(UserError, match=rf"1 of another shape: {name} \["):
        load(system, write(tmp_path, {**tensors, name: longer}))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("other", SYSTEMS)
def test_no_system_takes_the_file_of_another(system, other):
    path = PEERS / FOLDERS[other] / "weights.safetensors"
    if system == other:
        assert not load(system, path).training
    else:
        with pytest.raises(UserError, match="tensors do not fit"):
            load(system, path)


def test_a_llamagen_file_has_no_second_head(tmp_path):
    # Of as many blocks, so that the second head alone is missing.
    tensors = tensors_of("NAR")
    llamagen = {
        name: x for name, x in tensors.items()
        if not name.startswith(("medusa_", "layers.2."))
    }  # fmt: skip
    with pytest.raises(UserError, match=r"9 missing: layers\.2\.attention.*and 6 more"):
        load("NAR", write(tmp_path, llamagen))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_table_of_phases_is_passed_over_where_the_release_may_have_one(system, tmp_path):
    path = write(tmp_path, {**tensors_of(system), "freqs_cis": torch.zeros(3)})
    if system in {"LlamaGen", "NAR"}:
        assert load(system, path).output.weight.dtype == torch.float32
    else:
        with pytest.raises(UserError, match="1 unknown: freqs_cis"):
            load(system, path)


@pytest.mark.parametrize("wrapper", ["model", "module", "state_dict", None])
def test_pickles_are_read_wrapped_or_bare(wrapper, tmp_path):
    tensors = {name: x.bfloat16() for name, x in tensors_of("LlamaGen").items()}
    content = tensors
    if wrapper is not None:
        content = {wrapper: tensors, "steps": 3, "args": argparse.Namespace(epochs=300)}
    torch.save(content, tmp_path / "c2i_L_384.pt")
    model = load("LlamaGen", tmp_path / "c2i_L_384.pt")
    assert model.output.weight.dtype == torch.float32
    assert torch.equal(model.output.weight, tensors["output.weight"].float())
    assert not any(parameter.requires_grad for parameter in model.parameters())


class Payload:
    """What a hostile pickle would hold."""


@pytest.mark.parametrize("content", [{"model": Payload()}, Payload()])
def test_other_pickles_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(UserError, match=r"file\.pt: not a readable checkpoint"):
        load("LlamaGen", tmp_path / "file.pt")


def test_files_that_are_not_there_or_hold_no_tensors_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load("PAR", tmp_path / "no.safetensors")
    with pytest.raises(UserError, match="no such file"):
        load("PAR", tmp_path / "no.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"bad\.safetensors: not readable"):
        load("PAR", tmp_path / "bad.safetensors")
    torch.save({"model": {"steps": 3}}, tmp_path / "odd.pt")
    with pytest.raises(UserError, match=r"odd\.pt: 'steps' is a int where a tensor belongs"):
        load("PAR", tmp_path / "odd.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 66}, "width 66 is not a multiple of 4 for 4 heads"),
        ({"grid": [6, 5]}, "grid 6 x 5 is not square"),
        ({"blocks": 0}, "blocks"),
        ({"codes": "many"}, "codes"),
        ({"parallel_tokens": 9}, None),
        ({"parallel_tokens": 16}, "6 x 6 cells cannot be cut into 16 equal squares"),
    ],
)
def test_a_size_that_no_model_has_is_refused_by_name(change, message):
    config = json.loads((PEERS / "par" / "config.json").read_text())["tiny"]
    if message is None:
        empty_model("PAR", config | change, "config.json: tiny")
    else:
        with pytest.raises(UserError, match=rf"^config\.json: tiny: .*{message}"):
            empty_model("PAR", config | change, "config.json: tiny")
