"""Tasks as jobs of a real Slurm: made once, found again, tried again, and the same as elsewhere."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from pcb.pipeline.task import Task
from pcb.train.checkpoint import CHECKPOINT
from tests.launch.login import TRAIN, Login, change_settings, log_in, same_files, wait_for
from tests.launch.slurm import MiniSlurm
from tests.tasks import pipeline_of
from tests.workflow.snakemake import NOTHING, copy_project

pytestmark = pytest.mark.service

PROFILE = ("--workflow-profile", "workflow/profiles/slurm")


def test_smoke_runs_as_jobs_and_gives_the_same_bytes(
    slurm: MiniSlurm, finished: Path, tmp_path: Path
) -> None:
    """The whole preset, tokens as an array, samples in twos, against a run without a cluster."""
    login = Login(project=copy_project(tmp_path / "project"), slurm=slurm)
    login.cluster("{poll_seconds: 1, stages: {tokens: {array: 2}, sample: {chunk: 2}}}")
    command = ["snakemake", *PROFILE]
    environment = {
        **login.environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{login.environment['PATH']}",
    }

    def run() -> str:
        done = subprocess.run(
            command,
            cwd=login.project,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    out = run()
    assert re.search(r"^train/ratio2: submitted job \d+", out, flags=re.MULTILINE)
    assert re.search(r"^train/ratio2: job \d+ is done", out, flags=re.MULTILINE)
    assert out.count("(one of 2 tasks)") >= 2
    for task in pipeline_of():
        if task.stage not in ("report",):
            mine, theirs = (
                json.loads((tree / task.manifest).read_text()) for tree in (login.project, finished)
            )
            assert mine["content"] == theirs["content"], task.name
    assert not list((login.project / ".pcb" / "jobs").rglob("*.json"))
    assert NOTHING in run()


def test_controller_that_is_killed_finds_its_job_again(login: Login, finished: Path) -> None:
    controller = login.start("train", "ratio2")
    wait_for(login.ids)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    out = login.pcb("train", "ratio2")
    assert "train/ratio2: re-attached to job" in out
    assert len(login.jobs()) == 1
    assert same_files(login.project, finished, TRAIN)
    assert not login.record().exists()


def test_two_controllers_submit_one_job(login: Login) -> None:
    controllers = [login.start("train", "ratio2") for _ in range(2)]
    outs = [controller.communicate(timeout=300)[0] for controller in controllers]
    assert [controller.returncode for controller in controllers] == [0, 0], outs
    assert len(login.jobs()) == 1
    assert sum("already complete" in out for out in outs) == 1


def start_second_group(login: Login) -> "tuple[Task, subprocess.Popen[str], str]":
    """Start sampling by an array of two; return task, controller and the second job, begun."""
    login.pcb("train", "ratio2")
    task = pipeline_of().task("sample", "ratio2/t17")
    controller = login.start("sample", task.variant)
    wait_for(lambda: login.ids(task))
    second = login.ids(task)[1]
    assert second.endswith("_1")
    wait_for(lambda: "shard group 2 of 2" in login.log(second))
    return task, controller, second


def test_job_that_dies_is_tried_again_and_goes_on(login: Login, finished: Path) -> None:
    """One job of an array is killed without warning."""
    login.cluster("{poll_seconds: 0.5, stages: {sample: {array: 2}}}")
    task, controller, victim = start_second_group(login)
    login.send(victim, signal.SIGKILL)
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert re.search(rf"job {victim} ended as \w+; trying again", out), out
    assert out.count("trying again") == 1
    assert same_files(login.project, finished, task)


def test_metrics_in_groups_of_shards_are_those_of_one_process(
    finished: Path, slurm: MiniSlurm, tmp_path: Path
) -> None:
    login = log_in(finished, slurm, tmp_path)
    login.cluster("{poll_seconds: 0.5, stages: {metrics: {array: 2}}}")
    task = pipeline_of().task("metrics", "ratio2/t17")
    shutil.rmtree(login.project / task.artifact)
    login.pcb("metrics", task.variant)
    assert len(login.jobs()) == 3
    assert same_files(login.project, finished, task)


def test_stage_stops_after_the_set_number_of_tries(login: Login) -> None:
    login.cluster("{poll_seconds: 0.5, tries: 2, setup: ['exit 3']}")
    out = login.pcb("train", "ratio2", status=1)
    assert re.search(r"train/ratio2: slurm job \d+ failed \(state \w+\), as did 1 before it", out)
    assert "alone: pcb train ratio2 --preset smoke" in out
    assert "log: " in out
    assert len(login.jobs()) == 2


def test_what_a_user_has_to_put_right_is_said_once(login: Login) -> None:
    """An input is missing: no second try, one line, the log's last words."""
    shutil.rmtree(login.project / pipeline_of().task("tokens").artifact)
    out = login.pcb("train", "ratio2", status=1)
    assert "pcb tokens --preset smoke" in out
    assert len(login.jobs()) == 1
    assert "Traceback" not in out


LONG = {"training": {"epochs": 5}, "compute": {"checkpoint_seconds": 1}}
"""Settings of a training that is on its way when something happens to it."""


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


def test_array_element_at_its_time_limit_is_requeued_alone(login: Login, finished: Path) -> None:
    login.cluster("{poll_seconds: 0.5, signal_seconds: 120, stages: {sample: {array: 2}}}")
    task, controller, late = start_second_group(login)
    login.bring_to_its_limit(late)
    out, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, out
    assert "trying again" not in out, out
    # The element is requeued by itself, with no job beside the two and no try spent. Before them
    # came the training's job; after them one makes the set of their shards.
    assert f"Requeued job {late}" in login.log(late), login.log(late)
    assert len(login.jobs()) == 4
    assert same_files(login.project, finished, task)


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


def test_two_processes_train_one_model(login: Login, finished: Path) -> None:
    """Gradients are averaged over two ranks; the loss is one rank's beyond rounding."""
    login.cluster("{poll_seconds: 0.5, stages: {train: {ranks: 2}}}")
    out = login.pcb("train", "ratio2")
    assert re.search(r"job \d+ is done", out)
    losses = [
        json.loads((tree / TRAIN.manifest).read_text())["results"]["loss"]
        for tree in (login.project, finished)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len(login.jobs()) == 1


def test_jobs_are_listed_and_cancelled_from_elsewhere(login: Login) -> None:
    login.change(training={"epochs": 1000})
    controller = login.start("train", "ratio2")
    wait_for(login.ids)
    wait_for(lambda: "RUNNING" in login.pcb("jobs"))
    shown = login.pcb("jobs")
    assert re.search(r"^train/ratio2 +smoke +\d+ +all +1 +RUNNING", shown, flags=re.MULTILINE)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    assert "train/ratio2: 1 jobs canceled" in login.pcb("jobs", "--cancel", "train/ratio2")
    (job,) = login.jobs()
    wait_for(lambda: login.state(job) in ("CANCELLED", "FAILED"))
    assert "no jobs were submitted" in login.pcb("jobs")


@pytest.mark.parametrize(("policy", "left"), [("leave", True), ("cancel", False)])
def test_interrupted_controller_leaves_or_cancels_its_jobs(
    login: Login, policy: str, left: bool
) -> None:
    login.cluster(f"{{poll_seconds: 0.5, on_interrupt: {policy}}}")
    login.change(training={"epochs": 1000})
    controller = login.start("train", "ratio2")
    wait_for(login.ids)
    (job,) = login.ids()
    time.sleep(1)
    os.killpg(controller.pid, signal.SIGINT)
    out, _ = controller.communicate(timeout=60)
    assert controller.returncode == 130, out
    assert login.record().exists() == left
    assert ("its jobs stay" in out) == left
    if left:
        login.pcb("jobs", "--cancel")

    wait_for(lambda: login.state(job) in ("CANCELLED", "FAILED"))


def test_wrong_partition_is_refused_in_the_clusters_words(login: Login) -> None:
    login.cluster("{partition: nowhere}")
    out = login.pcb("train", "ratio2", status=1)
    assert "the cluster refused the job" in out
    assert "partition" in out and "params.local.yaml" in out
    assert login.jobs() == []


def test_person_at_a_terminal_sees_a_table_and_is_asked(login: Login) -> None:
    """Ctrl-C during a workflow: jobs are left, one question is asked, `y` cancels."""
    login.change(training={"epochs": 1000})
    program, terminal = pty.openpty()
    workflow = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *PROFILE, "train_all"],
        cwd=login.project,
        env=login.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=own_terminal,
    )
    os.close(terminal)
    seen = read_until(program, "2 running")
    assert re.search(r"train/ratio2 +smoke +\d+ +all +1 +RUNNING", seen), seen
    jobs = login.jobs()
    os.write(program, b"\x03")
    read_until(program, "cancel them? [y/N] ")
    os.write(program, b"y\n")
    read_until(program, "train/ratio4: 1 jobs canceled")
    assert workflow.wait(60) == 1
    os.close(program)
    for job in jobs:
        wait_for(lambda job=job: login.state(job) in ("CANCELLED", "FAILED"))


def own_terminal() -> None:
    """Make the terminal on stdin the controlling one of a new session, for Ctrl-C."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(program: int, text: str, seconds: float = 120) -> str:
    """Return what a terminal has shown when a text has come."""
    seen = ""
    limit = time.monotonic() + seconds
    while text not in seen:
        assert select.select([program], [], [], limit - time.monotonic())[0], seen
        seen += os.read(program, 4096).decode(errors="replace").replace("\r\n", "\n")
    return seen
