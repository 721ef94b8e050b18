"""Tasks that share a job of a real Slurm, and submissions whose answer nobody lived to keep."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from pcb.launch.record import all_records, read_record
from tests.launch.login import RATIO2, RATIO4, SAMPLES, TRAIN, Login, same_files, wait_for
from tests.tasks import pipeline_of

pytestmark = pytest.mark.service


def test_tasks_share_jobs_and_give_the_same_bytes(trained: Login, finished: Path) -> None:
    controllers = [trained.start("sample", task.variant) for task in SAMPLES]
    outs = [controller.communicate(timeout=300)[0] for controller in controllers]
    assert [controller.returncode for controller in controllers] == [0] * 4, outs
    assert len(trained.jobs()) == 2
    assert sum("(one of 2 tasks)" in out for out in outs) == 4
    for task in SAMPLES:
        assert same_files(trained.project, finished, task)
    assert not list(all_records(trained.project / ".pcb" / "jobs"))


def test_one_task_that_fails_leaves_its_neighbor_alone(trained: Login, finished: Path) -> None:
    """A model's weights are gone: one task says so, the other is made."""
    good, bad = RATIO2[0], RATIO4[0]
    shutil.rmtree(trained.project / pipeline_of().task("train", "ratio4").artifact)
    controllers = [trained.start("sample", task.variant) for task in (bad, good)]
    outs = [controller.communicate(timeout=300)[0] for controller in controllers]
    assert [controller.returncode for controller in controllers] == [1, 0], outs
    assert "pcb train ratio4 --preset smoke" in outs[0]
    assert len(trained.jobs()) == 1
    assert same_files(trained.project, finished, good)


def test_controllers_that_are_killed_find_the_job_that_they_share(
    trained: Login, finished: Path
) -> None:
    """Found by both, shown by `pcb jobs`; killed itself, its tasks are tried again, each alone."""
    controllers = [trained.start("sample", task.variant) for task in RATIO2]
    wait_for(lambda: all(trained.ids(task) for task in RATIO2))
    (job,) = {job for task in RATIO2 for job in trained.ids(task)}
    for controller in controllers:
        os.killpg(controller.pid, signal.SIGKILL)
        controller.wait()
    wait_for(lambda: ": making" in trained.log(job))
    trained.send(job, signal.SIGSTOP)
    shown = trained.pcb("jobs")
    running = rf"^sample/ratio2/\w+ +smoke +{job} +task {{}} of 2 +1 +RUNNING +\S+ +{{}}"
    for number, said in ((1, "making "), (2, "waits for its turn")):
        assert re.search(running.format(number, said), shown, flags=re.MULTILINE), shown
    assert shown.endswith("2 running\n")
    trained.send(job, signal.SIGKILL)
    controllers = [trained.start("sample", task.variant) for task in RATIO2]
    outs = [controller.communicate(timeout=300)[0] for controller in controllers]
    assert [controller.returncode for controller in controllers] == [0, 0], outs
    assert all(f"re-attached to job {job}" in out for out in outs)
    assert all(f"job {job} ended as FAILED; trying again" in out for out in outs)
    assert len(trained.jobs()) == 3
    assert all(same_files(trained.project, finished, task) for task in RATIO2)


def test_cancelled_task_takes_its_job_along(trained: Login) -> None:
    """Controllers that wait for the job stop with a line, and do not submit it anew."""
    # A job that has begun would have Slurm's grace, half a minute, to make a task after all.
    trained.cluster("{poll_seconds: 0.5, setup: [sleep 600], stages: {sample: {chunk: 2}}}")
    controllers = [trained.start("sample", task.variant) for task in RATIO2]
    wait_for(lambda: all(trained.ids(task) for task in RATIO2))
    out = trained.pcb("jobs", "--cancel", RATIO2[0].name)
    assert all(f"{task.name}: 1 jobs canceled" in out for task in RATIO2)
    outs = [controller.communicate(timeout=60)[0] for controller in controllers]
    assert [controller.returncode for controller in controllers] == [1, 1], outs
    assert all("was canceled; the same command submits it anew" in out for out in outs)
    assert len(trained.jobs()) == 1
    assert not list(all_records(trained.project / ".pcb" / "jobs"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_controller_that_dies_while_it_submits_leaves_one_job(
    login: Login, finished: Path, tmp_path: Path, when: str
) -> None:
    """Killed by its own sbatch: after the cluster has answered, or before it was asked at all."""
    real = shutil.which("sbatch", path=login.environment["PATH"])
    kill = "kill -KILL $PPID"
    lines = [f'{real} "$@"', kill] if when == "after" else [kill, "exit 1"]
    once = tmp_path / "sbatch"
    once.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    once.chmod(0o755)
    controller = login.start("train", "ratio2", path=tmp_path)
    controller.communicate(timeout=60)
    assert controller.returncode == -signal.SIGKILL
    record = read_record(login.record())
    assert record is not None and [job.job_id for job in record.jobs] == [""]
    assert "SUBMITTING" in login.pcb("jobs")
    out = login.pcb("train", "ratio2")
    assert ("re-attached to job" in out) == (when == "after")
    assert len(login.jobs()) == 1
    assert same_files(login.project, finished, TRAIN)
