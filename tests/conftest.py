"""Fixtures for all tests."""

from pathlib import Path

import pytest

from pcb.pipeline import Pipeline
from tests.units import pipeline_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the working directory: results and locks are relative to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PCB_PRESET", raising=False)
    return tmp_path


@pytest.fixture
def smoke() -> Pipeline:
    """Return the units of the smoke preset."""
    return pipeline_of()
