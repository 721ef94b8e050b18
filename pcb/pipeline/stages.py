"""Which function makes a stage's tasks, and with how many threads. No torch until one is loaded."""

import os
from importlib import import_module

from pcb.config import Compute, Resources
from pcb.errors import UserError
from pcb.pipeline.run import Entry

ENTRIES = {
    "data": "pcb.stages.data:prepare",
    "tokenizer": "pcb.stages.tokenizer:build",
    "reference": "pcb.stages.reference:build",
    "tokens": "pcb.stages.tokens:build",
    "train": "pcb.stages.train:run",
    "sample": "pcb.stages.sample:run",
    "metrics": "pcb.stages.metrics:run",
    "report": "pcb.stages.report:build",
}
LAUNCHED = {"data", "tokenizer", "reference", "tokens", "train", "sample", "metrics"}
"""Stages that a launcher may run elsewhere; the report is light and runs where it is called."""
LAUNCHERS = ("debug", "local", "slurm")
"""`debug` computes in this process, `local` in several of this machine, `slurm` in jobs."""
LAUNCHER_VARIABLE = "PCB_LAUNCHER"
TABLE_VARIABLE = "PCB_TABLE"
"""Set where a table of all jobs shows on the terminal what heads would else print: the workflow's
process id."""
SHARDED = {"tokens", "sample", "metrics"}
"""Stages whose shards several jobs can make at the same time."""
# Read when torch, NumPy or SciPy is loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
WIDE = {"tokenizer", "tokens", "train"}
"""Stages with few tasks, which much waits for: they get several threads. The others run side by
side, a thread each."""


def load_entry(stage: str) -> Entry:
    """Import a stage's entry, and with it what it needs."""
    module, _, function = ENTRIES[stage].partition(":")
    entry: Entry = getattr(import_module(module), function)
    return entry


def lazy_entry(stage: str) -> Entry:
    """Return a stage's entry, imported when it is called: a complete task waits for no torch."""
    return lambda job: load_entry(stage)(job)


def shares_of(stage: str, resources: Resources) -> list[tuple[int, int]]:
    """Return the shares into which the shards of a task are dealt out; none if it stays whole."""
    parts = resources.array if stage in SHARDED else 1
    return [(k, parts) for k in range(parts)] if parts > 1 else []


def threads_of(stage: str, compute: Compute) -> int:
    """Return how many CPU threads a task of this stage uses."""
    return compute.threads if stage in WIDE else 1


def launcher_of(stage: str) -> str:
    """Return where a stage's tasks run: PCB_LAUNCHER, or `debug` for light ones.

    Raises UserError for a launcher that there is not.
    """
    name = os.environ.get(LAUNCHER_VARIABLE) or "debug"
    if name not in LAUNCHERS:
        raise UserError(f"LAUNCHER={name}: no such launcher; there are {', '.join(LAUNCHERS)}")
    return name if stage in LAUNCHED else "debug"


def set_threads(stage: str, compute: Compute) -> None:
    """Set a stage's threads for the libraries that are loaded after this."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads_of(stage, compute))
    # Threads that spin while they wait cost a busy machine most of its speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
