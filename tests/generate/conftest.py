"""A project with one finished model of random weights, its samples and their metrics."""

import os
from pathlib import Path

import pytest
import torch

from pcb.pipeline.tasks import Pipeline
from tests.generate.models import make_project
from tests.tasks import ROOT, pipeline_of


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project's root. Tests leave it as it is."""
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    threads, exact = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    os.chdir(folder)
    try:
        make_project(pipeline_of())
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(exact)
    return folder


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Make the project the working directory, and `smoke` its preset."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("PCB_PRESET", "smoke")
    return pipeline_of()
