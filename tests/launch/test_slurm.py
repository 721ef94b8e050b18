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

from tests.launch.login import TRAIN, Login, log_in, same_files, wait_for
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
    login.cluster("{poll_seconds: 0.5, stages: {tokens: {array: 2}, sample: {chunk: 2}}}")
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
