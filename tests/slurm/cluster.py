"""A real single-node Slurm for tests: munged, slurmctld and slurmd, private to one folder.

Needs root and Debian's packages slurm-wlm and munge; nothing is installed or changed outside the
folder. The node pretends to have more CPUs than the machine has, so that small jobs run side by
side.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo")
_PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
_PATIENCE = 30.0


def why_not() -> str | None:
    """Return why no Slurm can be started here, None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"needs Slurm (apt install slurm-wlm munge): no {', '.join(missing)}"
    return None if os.geteuid() == 0 else "starting a Slurm needs root"


@dataclass(kw_only=True)
class MiniSlurm:
    """Daemons of one cluster. `environment` is what clients need to talk to it."""

    folder: Path
    cpus: int = 4
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that commands of this cluster need."""
        return {**os.environ, "PATH": _PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs."""
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={self.folder / 'munge.socket'}",
            f"--key-file={key}",
            f"--pid-file={self.folder / 'munged.pid'}",
            f"--log-file={self.folder / 'log' / 'munged.log'}",
            f"--seed-file={self.folder / 'munge.seed'}",
        )
        (self.folder / "slurm.conf").write_text(self._configuration())
        self._wait("munge", "--socket", str(self.folder / "munge.socket"), "--no-input")
        self._start("slurmctld", "-D", "-i")
        self._wait("scontrol", "ping")
        self._start("slurmd", "-D")
        limit = time.monotonic() + _PATIENCE
        while not self.run("sinfo", "-h", "-o", "%T").strip().startswith(("idle", "mix")):
            assert time.monotonic() < limit, "the node does not come up"
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the daemons, and with them every job."""
        subprocess.run(
            ["scancel", "--user", "root"], env=self.environment, stderr=subprocess.DEVNULL
        )
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *command: str) -> str:
        """Run a command of the cluster and return what it prints."""
        done = subprocess.run(
            command, env=self.environment, text=True, check=True, capture_output=True
        )
        return done.stdout

    def _start(self, *command: str) -> None:
        name = command[0]
        with (self.folder / "log" / f"{name}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    command, env=self.environment, stdout=output, stderr=subprocess.STDOUT
                )
            )

    def _wait(self, *command: str) -> None:
        """Wait until a command succeeds."""
        limit = time.monotonic() + _PATIENCE
        while subprocess.run(command, env=self.environment, capture_output=True).returncode:
            assert time.monotonic() < limit, f"{command[0]} does not answer"
            time.sleep(0.2)

    def _configuration(self) -> str:
        host = socket.gethostname().partition(".")[0]
        port = free_port()
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": port,
            "SlurmdPort": free_port(),
            "AuthType": "auth/munge",
            # Credentials that expire soon: requeued jobs wait as long as these live.
            "AuthInfo": f"socket={self.folder / 'munge.socket'},cred_expire=5",
            "CredType": "cred/munge",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldLogFile": self.folder / "log" / "slurmctld.log",
            "SlurmdLogFile": self.folder / "log" / "slurmd.log",
            "MpiDefault": "none",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SwitchType": "switch/none",
            "ReturnToService": 2,
            "KillWait": 5,
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "bf_interval=2,sched_interval=2,batch_sched_delay=0",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "AccountingStorageType": "accounting_storage/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "SlurmdParameters": "config_overrides",
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        memory = pages // 2**20 * 9 // 10
        lines.append(
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs={self.cpus} RealMemory={memory} State=UNKNOWN"
        )
        lines.append(f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP")
        return "\n".join(lines) + "\n"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
