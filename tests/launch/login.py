"""Projects on the login node of a Slurm, and what is asked of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from pcb.config.loader import merge
from pcb.launch.record import Record, read_record
from pcb.pipeline.manifest import result_files
from pcb.pipeline.task import Task
from tests.launch.slurm import MiniSlurm
from tests.tasks import pipeline_of

TRAIN = pipeline_of().task("train", "ratio2")
RATIO2, RATIO4 = (
    [u for u in pipeline_of() if u.stage == "sample" and u.variant.startswith(f"{model}/")][:2]
    for model in ("ratio2", "ratio4")
)
SAMPLES = [*RATIO2, *RATIO4]
"""The first two tasks of each model that sample."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """A project's folder on the login node."""

    project: Path
    slurm: MiniSlurm

    @property
    def environment(self) -> dict[str, str]:
        """What a user of the cluster has in the environment."""
        return {
            **self.slurm.environment,
            "PCB_LAUNCHER": "slurm",
            "PCB_PRESET": "smoke",
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments: str, path: Path | None = None) -> "subprocess.Popen[str]":
        """Start a `pcb` command in a session of its own; commands in `path` hide the cluster's."""
        environment = self.environment
        if path is not None:
            environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
        return subprocess.Popen(
            [sys.executable, "-m", "pcb", *arguments],
            cwd=self.project,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A test run in the background may have been told to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def pcb(self, *arguments: str, status: int = 0) -> str:
        """Run a `pcb` command to its end and return what it prints."""
        process = self.start(*arguments)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == status, out
        return out

    def record(self, task: Task = TRAIN) -> Path:
        """Return where a task's record stands."""
        return self.project / Record.of(task).path

    def names(self) -> list[str]:
        """Return the names of all submissions of the training that tests use."""
        return [f"pcb-train-{path.name}" for path in self.record().parent.glob("ratio2-*")]

    def ids(self, task: Task = TRAIN) -> list[str]:
        """Return the ids of the jobs on a task's record, in order."""
        record = read_record(self.record(task))
        return [job.job_id for job in record.jobs if job.job_id] if record else []

    def change(self, **settings: dict[str, object]) -> None:
        """Change settings of the project's preset."""
        change_settings(self.project, **settings)

    def cluster(self, settings: str) -> None:
        """Write facts of the cluster into the untracked local file."""
        (self.project / "params.local.yaml").write_text(f"cluster: {settings}\n")

    def state(self, job: str) -> str:
        """Return what Slurm calls the state of a job."""
        return self.slurm.run("squeue", "-h", "-r", "-t", "all", "-o", "%T", "-j", job).strip()

    def log(self, job: str) -> str:
        """Return what a job has printed so far."""
        folder = self.project / ".pcb" / "jobs"
        return "".join(path.read_text() for path in folder.rglob(f"{job}_0_log.out"))

    def process(self, job: str) -> Path | None:
        """Return the place below /proc of a running job's process, None if it has none."""
        array, _, element = job.partition("_")
        wanted = {f"SLURM_CONF={self.slurm.folder}/slurm.conf"}
        if element:
            wanted |= {f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={element}"}
        else:
            wanted.add(f"SLURM_JOB_ID={job}")
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (place / "cmdline").read_text().split("\0")
                environment = (place / "environ").read_text().split("\0")
                if "submitit.core._submit" in command[1:4] and wanted <= set(environment):
                    return place
        return None

    def send(self, job: str, number: signal.Signals) -> None:
        """Send a signal to the process of a job, if it has one, without Slurm knowing."""
        place = self.process(job)
        if place is not None:
            os.kill(int(place.name), number)

    def was_told(self, job: str, number: signal.Signals) -> bool:
        """Say whether a signal waits for a stopped job to go on, or has ended it before."""
        place = self.process(job)
        if place is None:
            return True
        pending = re.search(r"^ShdPnd:\s*(\w+)", (place / "status").read_text(), re.MULTILINE)
        return pending is not None and bool(int(pending[1], 16) >> (number - 1) & 1)

    def bring_to_its_limit(self, job: str) -> None:
        """Stop a job that is under way until Slurm tells it that its time is nearly over.

        It was submitted with `signal_seconds: 120`. Slurm looks at limits every half minute, and
        tells up to a minute early: a job with so short a limit from the start may be told before
        Python has begun to listen. So the limit comes once it is under way, and goes when it has
        done its work.
        """
        self.send(job, signal.SIGSTOP)
        limit = self.slurm.run("squeue", "-h", "-r", "-o", "%l", "-j", job).strip()
        self.slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=3")
        wait_for(lambda: self.was_told(job, signal.SIGUSR2))
        self.slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")
        self.send(job, signal.SIGCONT)

    def jobs(self) -> list[str]:
        """Return the ids of all jobs that this project has submitted."""
        out = self.slurm.run("squeue", "-h", "-r", "-t", "all", "-o", "%i|%Z")
        lines = [line.split("|") for line in out.splitlines()]
        return [job for job, folder in lines if Path(folder) == self.project.resolve()]


def log_in(source: Path, slurm: MiniSlurm, folder: Path) -> Login:
    """Copy a project onto a cluster."""
    project = folder / "project"
    shutil.copytree(source, project, symlinks=True)
    here = Login(project=project, slurm=slurm)
    here.cluster("{poll_seconds: 0.5}")
    return here


def change_settings(project: Path, **settings: dict[str, object]) -> None:
    """Change settings of a project's preset."""
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["presets"]["smoke"] = merge(params["presets"]["smoke"], settings)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def same_files(a: Path, b: Path, task: Task) -> bool:
    """Say whether two projects hold the same bytes of a task."""
    names = result_files(a / task.artifact)
    assert names and names == result_files(b / task.artifact)
    folders = (a / task.artifact, b / task.artifact)
    return all(len({(folder / name).read_bytes() for folder in folders}) == 1 for name in names)
