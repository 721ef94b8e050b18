"""Jobs of a real Slurm that end before their time: they go on, and end the same."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pcb.pipeline.task import Task
from pcb.train.checkpoint import CHECKPOINT
from tests.launch.login import TRAIN, Login, change_settings, same_files, wait_for
from tests.tasks import pipeline_of

pytestmark = pytest.mark.service

LONG = {"training": {"epochs": 5}, "compute": {"checkpoint_seconds": 1}}
"""Settings of a training that is on its way when something happens to it."""


def start_second_group(trained: Login) -> "tuple[Task, subprocess.Popen[str], str]":
    """Start sampling by an array of two; return task, controller and the second job, begun."""
    task = pipeline_of().task("sample", "ratio2/t17")
    controller = trained.start("sample", task.variant)
    wait_for(lambda: trained.ids(task))
    second = trained.ids(task)[1]
    assert second.endswith("_1")
    wait_for(lambda: "shard group 2 of 2" in trained.log(second))
    return task, controller, second


def test_job_that_dies_is_tried_again_and_goes_on(trained: Login, finished: Path) -> None:
    """One job of an array is killed without warning."""
    trained.cluster("{poll_seconds: 0.5, stages: {sample: {array: 2}}}")
    task, controller, victim = start_second_group(trained)
    trained.send(victim, signal.SIGKILL)
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert re.search(rf"job {victim} ended as \w+; trying again", out), out
    assert out.count("trying again") == 1
    assert same_files(trained.project, finished, task)


@pytest.fixture(scope="module")
def unbroken(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which that training ran without a cluster, and nothing happened."""
    project = tmp_path_factory.mktemp("unbroken") / "project"
    shutil.copytree(prepared, project, symlinks=True)
    change_settings(project, **LONG)
    subprocess.run(
        [sys.executable, "-m", "pcb", "train", "ratio2"],
        cwd=project,
        env={**os.environ, "PCB_PRESET": "smoke"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return project


def test_job_at_its_time_limit_is_requeued_and_ends_the_same(login: Login, unbroken: Path) -> None:
    """Told to save two minutes before the limit; stopped until then."""
    login.change(**LONG)
    login.cluster("{poll_seconds: 0.5, signal_seconds: 120}")
    controller = login.start("train", "ratio2")
    wait_for(login.ids)
    (job,) = login.ids()
    checkpoint = login.project / TRAIN.artifact / CHECKPOINT
    wait_for(lambda: checkpoint.exists() and login.process(job))
    login.bring_to_its_limit(job)
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert f"Requeued job {job}" in login.log(job), login.log(job)
    assert login.jobs() == [job]
    assert same_files(login.project, unbroken, TRAIN)


def test_array_element_at_its_time_limit_is_requeued_alone(trained: Login, finished: Path) -> None:
    trained.cluster("{poll_seconds: 0.5, signal_seconds: 120, stages: {sample: {array: 2}}}")
    task, controller, late = start_second_group(trained)
    trained.bring_to_its_limit(late)
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert "trying again" not in out, out
    # The element is requeued by itself, with no job beside the two and no try spent. After them one
    # makes the set of their shards.
    assert f"Requeued job {late}" in trained.log(late), trained.log(late)
    assert len(trained.jobs()) == 3
    assert same_files(trained.project, finished, task)


def test_job_that_is_preempted_goes_on_from_its_last_checkpoint(
    login: Login, unbroken: Path
) -> None:
    """Requeued from outside, it is ended without being told to save."""
    login.change(**LONG)
    controller = login.start("train", "ratio2")
    checkpoint = login.project / TRAIN.artifact / CHECKPOINT
    wait_for(checkpoint.exists)
    (job,) = login.ids()
    login.slurm.run("scontrol", "requeue", job)
    wait_for(lambda: login.state(job) == "PENDING")
    assert checkpoint.exists()
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert login.jobs() == [job]
    assert same_files(login.project, unbroken, TRAIN)
