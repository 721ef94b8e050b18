"""`pcb parity` through the command line: every system's recorded folder, and bad ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pcb.cli.main import main
from tests.cli.test_cli import error_of
from tests.recorded import PEERS

SYSTEMS = ("arpg", "llamagen", "lpd", "nar", "par", "randar", "var")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of a recorded folder that a test may spoil."""
    return Path(shutil.copytree(PEERS / "nar", tmp_path / "nar"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_systems_folder_agrees(system: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(PEERS / system)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["quantity", "largest", "error", "tolerance"]
    assert len(lines) > 10
    assert f"{len(lines) - 2} of {len(lines) - 2} quantities agree" == lines[-1]


def test_other_weights_are_out(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(copy / "weights.safetensors")
    tensors["output.weight"][3] += 1
    save_file(tensors, copy / "weights.safetensors")
    assert main(["parity", str(copy)]) == 1
    out = [line for line in capsys.readouterr().out.splitlines() if line.endswith("  OUT")]
    assert any(line.startswith("teacher_forced_logits ") for line in out)


def test_a_folder_of_neither_layout_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds neither config.yaml" in error_of(capsys, "parity", str(tmp_path))
    assert "holds neither config.yaml" in error_of(capsys, "parity", str(tmp_path / "absent"))


def test_bad_files_are_one_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "expected.npz").write_bytes(b"PK\x03\x04 cut")
    assert "expected.npz: not a readable .npz" in error_of(capsys, "parity", str(copy))
    (copy / "weights.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (copy / "expected.npz").unlink()
    assert "a Git-LFS pointer" in error_of(capsys, "parity", str(copy))
    (copy / "weights.safetensors").unlink()
    assert "weights.safetensors: no such file" in error_of(capsys, "parity", str(copy))
    (copy / "config.json").write_text(json.dumps({"peer": "DiT"}))
    assert "'DiT' is none of" in error_of(capsys, "parity", str(copy))


def test_recorded_inputs_that_do_not_fit_are_one_line(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(copy / "expected.npz") as file:
        arrays = dict(file)
    for name, wrong, why in (
        ("codes", arrays["codes"] + 100_000, "expected whole numbers from 0 below 96"),
        ("codes", arrays["codes"] - 1000, "expected whole numbers from 0 below 96"),
        ("codes", arrays["codes"] * 1.0, "expected whole numbers from 0 below 96"),
        ("codes", arrays["codes"][:, :-1], "it is [3, 35] where 3 x 36 is expected"),
        ("labels", arrays["labels"] + 11, "expected whole numbers from 0 below 11"),
        ("labels", arrays["labels"][None], "it is [1, 3] where any is expected"),
    ):
        np.savez(copy / "expected.npz", **arrays | {name: wrong})
        said = error_of(capsys, "parity", str(copy))
        assert f"expected.npz: `{name}` does not fit the model of config.json: {why}" in said


@pytest.mark.parametrize("runs", [[], {"off": "off"}, 3])
def test_runs_that_are_no_objects_are_one_line(
    copy: Path, capsys: pytest.CaptureFixture[str], runs: object
) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"runs": runs}))
    assert "config.json: runs: expected objects by name" in error_of(capsys, "parity", str(copy))


def test_a_defect_of_the_program_is_not_blamed_on_the_folder(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("pcb.systems.parity.family.rotary_table", fail)
    with pytest.raises(ValueError, match="a defect"):
        main(["parity", str(copy)])
