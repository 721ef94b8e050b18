"""Fixtures: a tree of made-up results and the report of it, both made once."""

import os
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.stages.report import run
from tests.report.results import make_results, mini_pipeline


@pytest.fixture(scope="session")
def mini() -> Pipeline:
    """Return the tasks of a small miniature."""
    os.environ.pop("PCB_PRESET", None)
    return mini_pipeline()


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, mini: Pipeline) -> Path:
    """Return a folder with every result of the miniature and its report."""
    folder = tmp_path_factory.mktemp("mini")
    with chdir(folder):
        make_results(mini)
        run_task(mini.task("report"), mini.preset, run)
    return folder


@pytest.fixture
def here(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the tree of results the working directory."""
    monkeypatch.chdir(tree)
    yield tree
