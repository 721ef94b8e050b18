"""A Slurm that keeps accounts: what slurmctld has forgotten is asked of sacct."""

import os
import signal
from pathlib import Path

import pytest

from pcb.launch.squeue import GONE, job_named, job_states
from tests.launch.login import TRAIN, Login, log_in, same_files, wait_for
from tests.launch.slurm import MiniSlurm

pytestmark = pytest.mark.service


@pytest.fixture
def login(prepared: Path, accounted: MiniSlurm, tmp_path: Path) -> Login:
    """Return a copy of the prepared project on the cluster with accounting."""
    return log_in(prepared, accounted, tmp_path)


def test_training_runs_and_stands_in_the_accounts(login: Login, finished: Path) -> None:
    out = login.pcb("train", "ratio2")
    assert "is done" in out
    assert same_files(login.project, finished, TRAIN)
    (name,) = login.names()
    told = ("sacct", "-n", "-X", "--name", name, "-o", "State")
    wait_for(lambda: login.slurm.run(*told).split() == ["COMPLETED"])


def test_job_that_died_long_ago_is_known_from_the_accounts(
    login: Login, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its controller was killed, it died, and slurmctld has forgotten it."""
    login.cluster("{poll_seconds: 0.5, setup: ['[ -e repaired ] || exit 3']}")
    controller = login.start("train", "ratio2")
    wait_for(login.ids)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    (job,) = login.ids()
    (name,) = login.names()
    wait_for(lambda: job not in login.jobs())
    for variable, value in login.slurm.environment.items():
        monkeypatch.setenv(variable, value)
    assert job_states([job])[job].state == "FAILED"
    assert (job_named(name), job_named("pcb-another")) == (job, GONE)
    (login.project / "repaired").touch()
    out = login.pcb("train", "ratio2")
    assert f"re-attached to job {job}" in out
    assert f"job {job} ended as FAILED; trying again" in out
    assert same_files(login.project, finished, TRAIN)
