"""A Slurm for all tests of this folder, and projects that talk to it."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.cluster import MiniSlurm, why_not


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniSlurm]:
    """Return a running Slurm; skip where there can be none."""
    why = why_not()
    if why is not None:
        pytest.skip(why)
    running = MiniSlurm(folder=tmp_path_factory.mktemp("slurm") / "cluster")
    running.start()
    yield running
    running.stop()


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

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a `pcb` command in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pcb", *arguments],
            cwd=self.project,
            env=self.environment,
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

    def change(self, old: str, new: str) -> None:
        """Change the project's params.yaml."""
        path = self.project / "params.yaml"
        text = path.read_text()
        assert text.count(old) == 1, old
        path.write_text(text.replace(old, new))

    def cluster(self, settings: str) -> None:
        """Write facts of the cluster into the untracked local file."""
        (self.project / "params.local.yaml").write_text(f"cluster: {settings}\n")

    def state(self, job: str) -> str:
        """Return what Slurm calls the state of a job."""
        return self.slurm.run("squeue", "-h", "-r", "-t", "all", "-o", "%T", "-j", job).strip()

    def jobs(self) -> list[str]:
        """Return the ids of all jobs that this project has submitted."""
        out = self.slurm.run("squeue", "-h", "-r", "-t", "all", "-o", "%i|%Z")
        lines = [line.split("|") for line in out.splitlines()]
        return [job for job, folder in lines if Path(folder) == self.project.resolve()]


@pytest.fixture
def login(prepared: Path, slurm: MiniSlurm, tmp_path: Path) -> Login:
    """Return a copy of the prepared project on the cluster."""
    project = tmp_path / "project"
    shutil.copytree(prepared, project, symlinks=True)
    here = Login(project=project, slurm=slurm)
    here.cluster("{poll_seconds: 0.5}")
    return here
