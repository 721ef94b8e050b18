"""Tasks as processes of this machine: the ranks of a training, or a group of the shards each."""

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence

from pcb.config.cluster import Cluster
from pcb.errors import UserError
from pcb.launch.split import ranks_per_node, shard_groups
from pcb.launch.work import Work
from pcb.pipeline.run import already_made
from pcb.pipeline.tasks import Task
from pcb.runtime.rendezvous import variables_of_ranks


def run_locally(task: Task, cluster: Cluster, *, force: bool) -> None:
    """Make a task by processes; what the settings ask of a node is asked of this machine.

    Raises UserError with the words of the first process that failed; the others are ended.
    """
    if not force and already_made(task):
        return
    resources = cluster.resources(task.stage)
    # Forced, the last process begins from nothing: shards would be made for nothing.
    groups = [] if force else shard_groups(task.stage, resources)
    _run(task, [Work.on(task, shards) for shards in groups], [{}] * len(groups))
    world = ranks_per_node(task.stage, resources)
    _run(task, [Work.on(task, force=force)] * world, variables_of_ranks(world))


def _run(task: Task, works: Sequence[Work], variables: Sequence[Mapping[str, str]]) -> None:
    """Run works side by side to their end."""
    processes = []
    for work, own in zip(works, variables, strict=True):
        process = subprocess.Popen(
            [sys.executable, "-m", "pcb.launch.work"],
            env={**os.environ, **own},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE if len(works) > 1 else None,
        )
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(work))
        process.stdin.close()
        processes.append(process)
    try:
        for process in processes:
            words = process.stderr.read().decode(errors="replace") if process.stderr else ""
            if process.wait():
                said = words.strip().splitlines()
                why = said[-1].removeprefix("pcb: ") if said else "see above"
                raise UserError(f"{task.name}: a process ended with {process.returncode}: {why}")
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
