"""Fixtures for all tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Tensors of tests are small: a second thread waits more than it computes, and the more so where
# tests run beside something else. Read by torch when it is first imported, here and in processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of processes run in copies of the project, which are made with its bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from pcb.pipeline.tasks import Pipeline
from pcb.runtime.lock import hold
from tests.inception import random_images, write_adm_reference, write_inception
from tests.tasks import pipeline_of
from tests.workflow.snakemake import copy_project, snakemake


@contextmanager
def torch_as_before() -> Iterator[None]:
    """Leave torch's flags and threads as they were found, if it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    exact, threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    tf32 = convolutions.allow_tf32, products.allow_tf32
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(exact)
        torch.set_num_threads(threads)
        convolutions.allow_tf32, products.allow_tf32 = tf32


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    """Give the next test torch as this one found it."""
    with torch_as_before():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: "pytest.FixtureDef[Any]",
) -> Generator[None, object, object]:
    """Give tests torch as a fixture that several share found it."""
    if fixturedef.scope == "function":
        return (yield)
    with torch_as_before():
        return (yield)


@pytest.fixture
def exact() -> None:
    """Compute as stages do: one thread, deterministic algorithms."""
    import torch

    from pcb.runtime.device import compute_exactly

    compute_exactly(torch.device("cpu"), 1)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> int:
    """Compute with so many threads."""
    import torch

    torch.set_num_threads(request.param)
    return int(request.param)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the working directory: results and locks are relative to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PCB_PRESET", raising=False)
    return tmp_path


@pytest.fixture
def smoke() -> Pipeline:
    """Return the tasks of the smoke preset."""
    return pipeline_of()


@pytest.fixture
def svg_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reports write figures in the page's format alone; the others take most of the time."""
    from pcb.report import build

    monkeypatch.setattr(build, "KINDS", ("svg",))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 256 KiB, which only root can."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project in which `make smoke` has run. Tests leave it as it is.

    It is one for all processes of a test run: the first that needs it makes it, others wait.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    project = folder / "finished"
    said = project / "output.txt"
    with hold(folder / "finished.lock", None):
        if not said.exists():
            shutil.rmtree(project, ignore_errors=True)
            said.write_text(snakemake(copy_project(project)))
    return project


@pytest.fixture(scope="session")
def prepared(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which everything before the training was made, without a cluster."""
    project = tmp_path_factory.mktemp("prepared") / "project"
    shutil.copytree(finished, project, symlinks=True)
    shutil.rmtree(project / ".pcb")
    for task in pipeline_of():
        if task.stage not in ("data", "tokenizer", "reference", "tokens"):
            shutil.rmtree(project / task.artifact)
            (project / task.manifest).unlink()
    return project


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return random weights of Inception in torch-fidelity's file format."""
    return write_inception(tmp_path_factory.mktemp("inception") / "weights.pth")


@pytest.fixture(scope="session")
def adm_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a reference file in ADM's form, with four images of 16x16 pixels."""
    path = tmp_path_factory.mktemp("adm") / "reference.npz"
    return write_adm_reference(path, random_images(4, seed=1))
