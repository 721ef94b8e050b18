"""The device and its precision: what was asked for is used, or refused in a line."""

from pathlib import Path

import pytest
import torch

from pcb.config import Compute
from pcb.errors import UserError
from pcb.runtime import gpus
from pcb.runtime.device import compute_exactly, pick_device, set_tf32
from pcb.runtime.environment import machine

SIGNS = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "LOCAL_RANK")
OLD = "The NVIDIA driver on your system is too old (found version 12020). Please update it."


@pytest.fixture(autouse=True)
def nothing_says_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SIGNS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "version")


@pytest.fixture(autouse=True)
def precision():
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    attention = torch.backends.cuda.cudnn_sdp_enabled()
    yield
    torch.backends.cuda.enable_cudnn_sdp(attention)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags


@pytest.fixture
def unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError(OLD)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Pretend two GPUs; return those that were made current."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.mark.usefixtures("unusable")
def test_where_nothing_says_gpu_the_cpu_computes() -> None:
    assert pick_device(Compute()) == torch.device("cpu")


@pytest.mark.usefixtures("unusable")
@pytest.mark.parametrize(
    ("name", "value"),
    [("CUDA_VISIBLE_DEVICES", "0,1"), ("SLURM_JOB_GPUS", "0"), ("SLURM_GPUS_ON_NODE", "4")],
)
def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        pick_device(Compute())
    words = str(caught.value)
    assert words.startswith(f"{name} = {value}, but torch")
    assert "driver on your system is too old" in words
    assert "compute.device to cpu" in words
    assert "\n" not in words
    assert pick_device(Compute(device="cpu")) == torch.device("cpu")


@pytest.mark.usefixtures("unusable")
def test_a_loaded_driver_says_gpu_unless_all_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.DRIVER.write_text("NVRM version")
    with pytest.raises(UserError, match="an NVIDIA driver is loaded"):
        pick_device(Compute())
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert pick_device(Compute()) == torch.device("cpu")


@pytest.mark.usefixtures("unusable")
def test_settings_that_ask_for_a_gpu_are_refused_without_one() -> None:
    with pytest.raises(UserError, match=r"^compute\.device = 'cuda', but torch"):
        pick_device(Compute(device="cuda"))


@pytest.mark.parametrize(("rank", "index"), [("0", 0), ("1", 1), ("3", 1), ("4", 0)])
def test_a_local_rank_takes_its_gpu_of_those_that_it_sees(
    monkeypatch: pytest.MonkeyPatch, current: list[torch.device], rank: str, index: int
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    expected = torch.device("cuda", index)
    assert pick_device(Compute()) == expected
    assert current == [expected]


def test_a_gpu_attends_without_cudnn(current: list[torch.device]) -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    pick_device(Compute())
    assert current
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_what_was_said(tf32: bool) -> None:
    set_tf32(not tf32)
    torch.backends.cuda.matmul.allow_tf32 = True
    compute_exactly(torch.device("cpu"), 1, tf32=tf32)
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_no_tf32_unless_it_was_asked_for() -> None:
    set_tf32(True)
    pick_device(Compute(device="cpu"))
    assert not torch.backends.cudnn.allow_tf32


def test_a_result_says_where_it_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert machine()["device"] == "cpu"
    assert "tf32" not in machine()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    set_tf32(False)
    assert machine()["tf32"] == "nowhere"
    set_tf32(True)
    found = machine()
    assert (found["device"], found["gpu"], found["tf32"]) == ("cuda", "H100", "convolutions")
