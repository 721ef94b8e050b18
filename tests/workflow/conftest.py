"""The smoke preset, really run, once for all tests that look at it."""

from pathlib import Path

import pytest

from tests.workflow.snakemake import copy_project, snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project in which `make smoke` has run. Tests leave it as it is."""
    project = copy_project(tmp_path_factory.mktemp("finished"))
    (project / "output.txt").write_text(snakemake(project))
    return project
