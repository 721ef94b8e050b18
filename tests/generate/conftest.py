"""A project with one finished model of random weights, its samples and their metrics."""

from contextlib import chdir
from pathlib import Path

import pytest
import torch

from pcb.generate.model import exactly
from pcb.pipeline.tasks import Pipeline
from tests.generate.models import make_project
from tests.tasks import ROOT, pipeline_of


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project's root. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    with chdir(folder), exactly(torch.device("cpu")):
        make_project(pipeline_of())
    return folder


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Make the project the working directory, and `smoke` its preset."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("PCB_PRESET", "smoke")
    return pipeline_of()
