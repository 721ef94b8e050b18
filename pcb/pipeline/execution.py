"""The launcher and the number of threads of a stage's tasks. No torch."""

import os
import shutil

from pcb.config import Compute
from pcb.config.stages import STAGES
from pcb.errors import UserError

LAUNCHERS = ("debug", "local", "slurm")
"""`debug` computes in this process, `local` in several of this machine, `slurm` in jobs."""
_SLURM = ("sbatch", "squeue", "scancel")
"""Commands of Slurm that jobs are submitted and watched with."""
LAUNCHER_VARIABLE = "PCB_LAUNCHER"
# Read when torch, NumPy or SciPy is loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def active_launcher() -> str:
    """Return the launcher that PCB_LAUNCHER names. Raises UserError if there is none such."""
    name = os.environ.get(LAUNCHER_VARIABLE) or "debug"
    if name not in LAUNCHERS:
        raise UserError(f"LAUNCHER={name}: no such launcher; there are {', '.join(LAUNCHERS)}")
    return name


def require_launcher() -> None:
    """Raise UserError unless the launcher that PCB_LAUNCHER names can start something here."""
    if active_launcher() == "slurm":
        lacking = [command for command in _SLURM if shutil.which(command) is None]
        if lacking:
            raise UserError(
                f"LAUNCHER=slurm: this machine has no `{lacking[0]}`; give the command where jobs "
                "are submitted, on a login node of the cluster, or without LAUNCHER"
            )


def launcher_of(stage: str) -> str:
    """Return where a stage's tasks run: `debug` for light ones. Raises as `active_launcher`."""
    name = active_launcher()
    return name if STAGES[stage].launched else "debug"


def threads_of(stage: str, compute: Compute) -> int:
    """Return how many CPU threads a task of this stage uses."""
    return compute.threads if STAGES[stage].wide else 1


def set_threads(stage: str, compute: Compute) -> None:
    """Set a stage's threads for the libraries that are loaded after this."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads_of(stage, compute))
    # Threads that spin while they wait cost a busy machine most of its speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
