"""The choice between local processes and Slurm jobs."""

from pcb.config import Cluster
from pcb.launch.controller import Controller
from pcb.launch.local import run_locally
from pcb.pipeline.task import Task


def launch(task: Task, cluster: Cluster, launcher: str, *, force: bool = False) -> None:
    """Make a task by a launcher, `local` or `slurm`. Raises UserError if that fails."""
    if launcher == "slurm":
        Controller(task=task, cluster=cluster, force=force).run()
    else:
        run_locally(task, cluster, force=force)
