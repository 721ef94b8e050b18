"""A real single-node Slurm for tests: munged, slurmctld and slurmd, private to one folder.

With accounting, also slurmdbd and a MariaDB that nobody else sees. Needs root and Debian's packages
slurm-wlm and munge (slurmdbd and mariadb-server); nothing is installed or changed outside the
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
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacctmgr", "sacct")
_PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
_PATIENCE = 30.0


def why_not(*, accounting: bool = False) -> str | None:
    """Return why no Slurm can be started here, None if one can."""
    wanted, packages = PROGRAMS, "slurm-wlm munge"
    if accounting:
        wanted, packages = PROGRAMS + ACCOUNTING, f"{packages} slurmdbd mariadb-server"
    missing = [name for name in wanted if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"needs Slurm (apt install {packages}): no {', '.join(missing)}"
    return None if os.geteuid() == 0 else "starting a Slurm needs root"


@dataclass(kw_only=True)
class MiniSlurm:
    """Daemons of one cluster. `environment` is what clients need to talk to it."""

    folder: Path
    cpus: int = 4
    accounting: bool = False
    remembers: int = 300
    """Seconds for which slurmctld knows a job that has ended."""
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
        self._wait("munge", "--socket", str(self.folder / "munge.socket"), "--no-input")
        database = self._start_database() if self.accounting else None
        (self.folder / "slurm.conf").write_text(self._configuration(database))
        if self.accounting:
            self._start("slurmdbd", "-D", MYSQL_UNIX_PORT=str(self.folder / "database.socket"))
            self._wait("sacctmgr", "--noheader", "show", "cluster")
            self.run("sacctmgr", "--immediate", "add", "cluster", "test")
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

    def _start(self, *command: str, **variables: str) -> None:
        environment = {**self.environment, **variables}
        with (self.folder / "log" / f"{command[0]}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
            )

    def _start_database(self) -> int:
        """Start a MariaDB, write what slurmdbd has to know, and return slurmdbd's port."""
        data, socket_path, port = (
            self.folder / "database",
            self.folder / "database.socket",
            free_port(),
        )
        own = ("--no-defaults", f"--datadir={data}", "--user=root")
        self.run("mariadb-install-db", *own, "--auth-root-authentication-method=socket")
        self._start(
            "mariadbd",
            *own,
            f"--socket={socket_path}",
            f"--pid-file={self.folder / 'mariadbd.pid'}",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
        )
        self._wait("mariadb", "--no-defaults", f"--socket={socket_path}", "-e", "select 1")
        settings = {
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder / 'munge.socket'}",
            "DbdHost": _host(),
            "DbdAddr": "127.0.0.1",
            "DbdPort": port,
            "SlurmUser": "root",
            "LogFile": self.folder / "log" / "slurmdbd.log",
            "PidFile": self.folder / "slurmdbd.pid",
            "StorageType": "accounting_storage/mysql",
            "StorageUser": "root",
            "StorageHost": "localhost",
        }
        path = self.folder / "slurmdbd.conf"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        path.chmod(0o600)
        return port

    def _wait(self, *command: str) -> None:
        """Wait until a command succeeds."""
        limit = time.monotonic() + _PATIENCE
        while subprocess.run(command, env=self.environment, capture_output=True).returncode:
            assert time.monotonic() < limit, f"{command[0]} does not answer"
            time.sleep(0.2)

    def _configuration(self, database: int | None) -> str:
        host = _host()
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": free_port(),
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
            "MinJobAge": self.remembers,
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "bf_interval=2,sched_interval=2,batch_sched_delay=0",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "AccountingStorageType": "accounting_storage/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "SlurmdParameters": "config_overrides",
        }
        if database is not None:
            settings |= {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": "127.0.0.1",
                "AccountingStoragePort": database,
                "AccountingStoragePass": self.folder / "munge.socket",
            }
        lines = [f"{name}={value}" for name, value in settings.items()]
        memory = pages // 2**20 * 9 // 10
        lines.append(
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs={self.cpus} RealMemory={memory} State=UNKNOWN"
        )
        lines.append(f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP")
        return "\n".join(lines) + "\n"


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
