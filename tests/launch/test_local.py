"""The launcher `local`: several processes make what one makes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pcb.pipeline.task import Task
from tests.tasks import pipeline_of

pytestmark = pytest.mark.workflow

TRAIN = pipeline_of().task("train", "ratio2")
SAMPLE = pipeline_of().task("sample", "ratio2/t17")


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    """Return a copy of a project in which everything before the training was made."""
    project = tmp_path / "project"
    shutil.copytree(prepared, project, symlinks=True)
    settings = "{stages: {train: {ranks: 2}, sample: {array: 2}}}"
    (project / "params.local.yaml").write_text(f"cluster: {settings}\n")
    return project


def pcb(project: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pcb", *arguments],
        cwd=project,
        env={**os.environ, "PCB_LAUNCHER": "local", "PCB_PRESET": "smoke"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def manifest(tree: Path, task: Task) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((tree / task.manifest).read_text())
    return found


def test_two_ranks_and_two_groups_of_shards(project: Path, finished: Path) -> None:
    pcb(project, "train", "ratio2")
    mine, theirs = (manifest(tree, TRAIN)["results"] for tree in (project, finished))
    assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    # The same weights again, so that samples can be compared bit by bit.
    for name in (TRAIN.artifact, TRAIN.manifest):
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        source = finished / name
        shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
    out = pcb(project, "sample", "ratio2/t17")
    assert all(f"making shard group {k} of 2" in out for k in (1, 2))
    assert manifest(project, SAMPLE)["content"] == manifest(finished, SAMPLE)["content"]
    assert "already complete" in pcb(project, "sample", "ratio2/t17")


def test_what_is_wrong_is_said_in_a_line(project: Path) -> None:
    shutil.rmtree(project / pipeline_of().task("tokens").artifact)
    out = pcb(project, "train", "ratio2", status=1)
    assert "pcb tokens --preset smoke" in out
    assert "Traceback" not in out
