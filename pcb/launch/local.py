"""Tasks as processes of this machine: the ranks of a training, or a group of the shards each."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pcb.config.cluster import Cluster
from pcb.errors import UserError
from pcb.launch.split import ranks_per_node, shard_groups
from pcb.launch.work import Work
from pcb.pipeline.job import ShardGroup
from pcb.pipeline.run import already_made
from pcb.pipeline.task import Task
from pcb.runtime.gpus import VISIBLE, visible_gpus
from pcb.runtime.rendezvous import variables_of_ranks

_OURS = "pcb: "
"""What a process puts before what a user has to put right."""
_POLL = 0.1


def run_locally(task: Task, cluster: Cluster, *, force: bool) -> None:
    """Make a task by processes; what the settings ask of a node is asked of this machine.

    Raises UserError with the words of the first process that failed; the others are ended.
    """
    if not force and already_made(task):
        return
    resources = cluster.resources(task.stage)
    # Forced, the last process begins from nothing: shards would be made for nothing.
    groups = [] if force else shard_groups(task.stage, resources)
    gpus = visible_gpus(os.environ)
    for some in waves(groups, len(gpus)):
        _run(task, [Work.on(task, shards) for shards in some], variables_of_groups(some, gpus))
    world = ranks_per_node(task.stage, resources)
    _run(task, [Work.on(task, force=force)] * world, variables_of_ranks(world))


def waves(groups: Sequence[ShardGroup], gpus: int) -> list[Sequence[ShardGroup]]:
    """Return the groups that are made side by side, wave after wave: each with a GPU of its own."""
    size = gpus or max(1, len(groups))
    return [groups[start : start + size] for start in range(0, len(groups), size)]


def variables_of_groups(
    groups: Sequence[ShardGroup], gpus: Sequence[str]
) -> list[Mapping[str, str]]:
    """Return what to add to the environment of each group's process: a GPU in turn, if any."""
    return [{VISIBLE: gpus[k % len(gpus)]} if gpus else {} for k in range(len(groups))]


def _run(task: Task, works: Sequence[Work], variables: Sequence[Mapping[str, str]]) -> None:
    """Run works side by side; if one fails, end the others and raise UserError with its words."""
    alone = len(works) == 1
    processes = [_start(work, own, alone=alone) for work, own in zip(works, variables, strict=True)]
    # A pipe that nobody reads would stop its process once it is full.
    with ThreadPoolExecutor(max(1, len(processes))) as readers:
        said = [readers.submit(_words, process) for process in processes]
        try:
            failed = _failed(processes)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        words = [(said[k].result(), processes[k].returncode) for k in failed]
    if words:
        # What a process says of a rank that is gone is not the reason.
        line, status = min(words, key=lambda found: not found[0].startswith(_OURS))
        why = line.removeprefix(_OURS) or "see above"
        raise UserError(f"{task.name}: a process ended with {status}: {why}")


def _start(work: Work, own: Mapping[str, str], *, alone: bool) -> "subprocess.Popen[bytes]":
    """Start a process and hand it its work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pcb.launch.work"],
        env={**os.environ, **own},
        stdin=subprocess.PIPE,
        stderr=None if alone else subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(work))
    process.stdin.close()
    return process


def _failed(processes: "Sequence[subprocess.Popen[bytes]]") -> list[int]:
    """Wait until all have ended, or some have failed; return the numbers of these."""
    while True:
        ends = [process.poll() for process in processes]
        failed = [number for number, end in enumerate(ends) if end]
        if failed or None not in ends:
            return failed
        time.sleep(_POLL)


def _words(process: "subprocess.Popen[bytes]") -> str:
    """Return the last line that a process says on stderr, when it has ended; nothing if unheard."""
    text = process.stderr.read().decode(errors="replace") if process.stderr else ""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
