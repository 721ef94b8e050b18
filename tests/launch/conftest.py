"""A cluster's commands, played by shell scripts; and real Slurms, each started once a process."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launch.login import Login, log_in
from tests.launch.slurm import MiniSlurm, why_not
from tests.tasks import pipeline_of

StandIn = Callable[[str, str], None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Return what puts a shell script in the place of one of the cluster's commands."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        command = folder / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)

    return put


def run_slurm(running: MiniSlurm) -> Iterator[MiniSlurm]:
    """Yield a Slurm while it runs; skip where there can be none."""
    why = why_not(accounting=running.accounting)
    if why is not None:
        pytest.skip(why)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniSlurm]:
    """Return a running Slurm without accounting."""
    yield from run_slurm(MiniSlurm(folder=tmp_path_factory.mktemp("slurm") / "cluster"))


@pytest.fixture(scope="session")
def accounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniSlurm]:
    """Return a running Slurm with accounting, whose slurmctld soon forgets what has ended."""
    folder = tmp_path_factory.mktemp("slurm") / "accounted"
    yield from run_slurm(MiniSlurm(folder=folder, accounting=True, remembers=2))


@pytest.fixture
def login(prepared: Path, slurm: MiniSlurm, tmp_path: Path) -> Login:
    """Return a copy of the prepared project on the cluster."""
    return log_in(prepared, slurm, tmp_path)


@pytest.fixture
def trained(finished: Path, slurm: MiniSlurm, tmp_path: Path) -> Login:
    """Return a project on the cluster in which everything before the samples was made."""
    login = log_in(finished, slurm, tmp_path)
    for task in pipeline_of():
        if task.stage == "sample":
            shutil.rmtree(login.project / task.artifact)
            (login.project / task.manifest).unlink()
    login.cluster("{poll_seconds: 0.5, stages: {sample: {chunk: 2}}}")
    return login
