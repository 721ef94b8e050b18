"""The terminal of `make reproduce LAUNCHER=slurm`: a live table of jobs and one question.

Many controllers run at once, each with its output in a log. So one process of the workflow shows a
table of all jobs, and one question is asked when the workflow ends before its jobs do.
"""

import os
import subprocess
import sys

from pcb.config.loader import load_cluster
from pcb.launch.record import all_records
from pcb.launch.table import TABLE_VARIABLE, cancel_jobs

_SECONDS = "30"
"""Between two tables."""


def show_jobs() -> None:
    """Have a table of the jobs printed now and then for as long as this process lives.

    Controllers that are started after this print changes of state, and no progress.
    """
    if sys.stdout.isatty():
        os.environ[TABLE_VARIABLE] = str(os.getpid())
        subprocess.Popen([sys.executable, "-m", "pcb", "jobs", "--watch", _SECONDS])


def ask_about_jobs(preset: str) -> None:
    """Ask whether to cancel what still runs of a preset, unless the settings have decided that."""
    records = [record for record in all_records() if record.preset == preset and record.jobs]
    if not records or load_cluster().on_interrupt != "ask":
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        answer = input(f"\npcb: jobs of {len(records)} tasks still run; cancel them? [y/N] ")
        if answer.strip().lower().startswith("y"):
            cancel_jobs(preset=preset)
