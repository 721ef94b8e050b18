"""PyTorch's files: what stands in their place, damage, and what they hold beside tensors."""

import argparse
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcb.errors import UserError
from pcb.runtime.torch_files import in_float32, read_torch, tensors_of
from pcb.runtime.weights import check_finite, check_tensors, save_weights


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_torch(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: not a readable checkpoint (")
    assert "\n" not in line and "weights_only" not in line
    return line


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1373000000\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (LFS, "a Git-LFS pointer"),
        (b"/annex/objects/MD5E-s10--00.pth\n", "a git-annex pointer"),
        (b"../../.git/annex/objects/MD5E-s10--00.pth\n", "a git-annex pointer"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html><body>Sign in</body>", "a web page"),
        (b"<html lang=en>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "message in XML"),
        (b'{"error": "Access to model is restricted"}', "text in JSON"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"Access denied.\n", "damaged, or of another format"),
        (bytes(1000), "damaged, or of another format"),
    ],
)
def test_what_stands_in_the_place_of_weights_is_said(path: Path, content: bytes, what: str) -> None:
    path.write_bytes(content)
    assert what in refusal(path)


def test_missing_files_and_folders_are_one_line(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UserError, match=r"weights\.pth: no such file$"):
        read_torch(path)
    assert "not a file" in refusal(tmp_path)


def test_every_flipped_byte_of_a_tensor_and_every_cut_is_found(path: Path) -> None:
    torch.save({"model": {"x": torch.arange(1000.0)}}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (data,) = (item for item in archive.infolist() if item.filename.endswith("data/0"))
    # The part's own header stands before it: a length, then up to the next multiple of 64.
    start = whole.index(torch.arange(1000.0).numpy().tobytes())
    for place in (start, start + 1234, start + data.file_size - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "data/0 does not have its CRC-32" in refusal(path)
    for size in (len(whole) - 1, len(whole) // 2, 100):
        path.write_bytes(whole[:size])
        assert "cut short" in refusal(path)
    path.write_bytes(whole)
    assert torch.equal(read_torch(path)["model"]["x"], torch.arange(1000.0))


class _Command:
    def __reduce__(self) -> Any:
        return os.getcwd, ()


def test_what_could_run_code_is_named_and_not_run(path: Path) -> None:
    torch.save({"model": _Command()}, path)
    assert "it holds posix.getcwd, which is no tensor and could run code" in refusal(path)
    path.write_bytes(pickle.dumps({"model": _Command()}, protocol=2))
    assert "it holds posix.getcwd" in refusal(path)


def test_plain_values_of_numpy_are_read(path: Path) -> None:
    held = {
        "epoch": np.int64(3), "loss": np.float64(0.5),
        "best": np.float32(0.25), "on": np.bool_(True),
        "args": argparse.Namespace(lr=np.float64(1e-4)),
    }  # fmt: skip
    torch.save(held, path)
    found = read_torch(path)
    assert (found["epoch"], found["loss"], found["best"], found["on"]) == (3, 0.5, 0.25, True)
    assert found["args"].lr == 1e-4


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": 1}, "'a' is a int where a tensor belongs"),
        ({"a": None}, "'a' is a NoneType where a tensor belongs"),
        ({"a": {"b": torch.zeros(1)}}, "'a' is a dict where a tensor belongs"),
        ({3: torch.zeros(1)}, "3 is a Tensor where a tensor belongs"),
        ({"a": torch.eye(2).to_sparse()}, "a is a tensor of another kind"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a is a tensor of another kind"),
    ],
)
def test_what_is_no_tensor_is_named(tensors: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"here: {message}"):
        tensors_of(tensors, "here")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_converted_and_said(
    kind: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"a": torch.rand(3).to(kind), "b": torch.rand(2), "n": torch.arange(2)}
    found = in_float32(held, "here")
    name = str(kind).removeprefix("torch.")
    assert capsys.readouterr().out == f"here: 1 tensors are {name}; converted to float32\n"
    assert torch.equal(found["a"], held["a"].float()) and found["a"].dtype == torch.float32
    assert found["b"] is held["b"] and found["n"] is held["n"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_never_loaded_nor_written(path: Path, value: float) -> None:
    state = {"a": torch.zeros(3), "b.weight": torch.tensor([1.0, value]), "n": torch.arange(2)}
    expected = {name: torch.empty_like(x) for name, x in state.items()}
    for refused in (
        lambda: check_tensors(expected, state, str(path)),
        lambda: save_weights(path, state),
        lambda: check_finite({name: x.numpy() for name, x in state.items()}, str(path)),
    ):
        with pytest.raises(UserError, match=rf"{path}: not finite .* in b\.weight;"):
            refused()
    assert not path.exists()


def test_tensors_of_another_kind_do_not_fit() -> None:
    with pytest.raises(UserError, match="1 of another kind: a int64 for float32"):
        check_tensors({"a": torch.zeros(2)}, {"a": torch.arange(2)}, "here")
