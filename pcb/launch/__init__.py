"""Running tasks as jobs: submitted once, watched, found again after the head process died."""

from pcb.config import Cluster
from pcb.launch.head import Head
from pcb.launch.local import run_locally
from pcb.pipeline.tasks import Task


def launch(task: Task, cluster: Cluster, launcher: str, *, force: bool = False) -> None:
    """Make a task by a launcher, `local` or `slurm`. Raises UserError if that fails."""
    if launcher == "slurm":
        Head(task=task, cluster=cluster, force=force).run()
    else:
        run_locally(task, cluster, force=force)
