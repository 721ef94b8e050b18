"""Running units as jobs: submitted once, watched, found again after the head process died."""

from pcb.config import Cluster
from pcb.launch.head import Head
from pcb.launch.local import run_locally
from pcb.pipeline.tasks import Unit


def launch(unit: Unit, cluster: Cluster, launcher: str, *, force: bool = False) -> None:
    """Make a unit by a launcher, `local` or `slurm`. Raises UserError if that fails."""
    if launcher == "slurm":
        Head(unit=unit, cluster=cluster, force=force).run()
    else:
        run_locally(unit, cluster, force=force)
