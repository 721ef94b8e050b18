"""The table of jobs: a line per job, and counts by state. Works from any terminal."""

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence

from pcb.errors import UserError
from pcb.launch.outcome import progress
from pcb.launch.record import Record, Submitted, all_records
from pcb.launch.squeue import JobState, cancel_named, job_states
from pcb.pipeline.job import ALL_SHARDS

_HEADER = ("task", "preset", "job", "part", "try", "state", "node", "progress")
_LOOK = 5.0
"""Seconds between two looks at the queue beside a workflow."""
TABLE_VARIABLE = "PCB_TABLE"
"""Set where a table of all jobs shows on the terminal what controllers would else print: the
workflow's process id."""
_NOTHING = "no jobs were submitted from this folder, or all are done"


def print_jobs() -> int:
    """Print the jobs of this folder and return 0; what Slurm does not say is `unknown`."""
    print("\n".join(_table() or [_NOTHING]))
    return 0


def watch_jobs(seconds: float) -> int:
    """Print the table every so many seconds until no job is left or Ctrl-C, and return 0.

    A terminal shows it in place. On one that a workflow prints to as well (`TABLE_VARIABLE`), it is
    printed below the rest where it has changed, until the workflow ends.
    """
    try:
        if TABLE_VARIABLE in os.environ:
            _accompany(int(os.environ[TABLE_VARIABLE]), seconds)
        else:
            _watch(seconds)
    except KeyboardInterrupt:
        print()
    return 0


def cancel_jobs(task: str = "", preset: str = "") -> int:
    """Cancel the jobs of one task, by name, of a preset, or of all; return 0.

    What else these jobs make is told of too. Raises UserError if there are none.
    """
    records = [record for record in all_records() if record.jobs]
    names = {
        job.name
        for record in records
        if task in ("", record.task) and preset in ("", record.preset)
        for job in record.jobs
    }
    if not names:
        raise UserError(
            f"no jobs of {task or 'this folder'} to cancel; `pcb jobs` shows what there is"
        )
    for record in records:
        own = [job for job in record.jobs if job.name in names]
        if own:
            record.remove()
            print(f"{record.task}: {len(own)} jobs canceled")
    cancel_named(names)
    return 0


def _watch(seconds: float) -> None:
    """Print the table again and again, over itself on a terminal."""
    above = 0
    while lines := _table():
        if sys.stdout.isatty():
            above = _redraw(lines, above)
        else:
            print("\n".join(lines), flush=True)
        time.sleep(seconds)
    print(_NOTHING)


def _accompany(parent: int, seconds: float) -> None:
    """Print the table for as long as this process's parent lives.

    At once where jobs begin, change state or end, and every so many seconds for their progress.
    """
    before: list[str] = []
    due = looked = 0.0
    while os.getppid() == parent:
        now = time.monotonic()
        if now - looked >= min(_LOOK, seconds):
            lines, looked = _table(), now
            if lines[-1:] != before[-1:] or (now >= due and lines != before):
                if lines:
                    print("\n".join(["", *lines, ""]), flush=True)
                before, due = lines, now + seconds
        time.sleep(min(1.0, seconds))


def _table() -> list[str]:
    """Return the table's lines; none if there are no jobs."""
    jobs = [(record, job) for record in all_records() for job in record.jobs]
    if not jobs:
        return []
    states = job_states(job.job_id for _, job in jobs if job.job_id) or {}
    cells = [_cells(record, job, states) for record, job in jobs]
    widths = [max(map(len, column)) for column in zip(_HEADER, *cells, strict=True)]
    lines = [_HEADER, *cells]
    counts = Counter(line[_HEADER.index("state")].lower() for line in cells)
    return [
        *("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines),
        ", ".join(f"{number} {state}" for state, number in counts.most_common()),
    ]


def _cells(record: Record, job: Submitted, states: dict[str, JobState]) -> tuple[str, ...]:
    """Return the line of one job of a task, cell by cell."""
    part = "all"
    if job.shards != ALL_SHARDS:
        part = f"group {job.shards.first + 1} of {job.shards.step}"
    elif job.tasks:
        part = f"task {job.tasks.index(record.task) + 1} of {len(job.tasks)}"
    told = (record.task, record.preset, job.job_id or "?", part, str(job.tries))
    if not job.job_id:
        return (*told, "SUBMITTING", "", "")
    state = states.get(job.job_id, JobState(state="unknown"))
    said = progress(job, record.task)
    if job.tasks and state.state == "RUNNING":
        said = said or "waits for its turn in the job"
    return (*told, state.state, state.node, said)


def _redraw(lines: Sequence[str], above: int) -> int:
    """Print lines over as many that stand above; return how many stand there now.

    What the terminal has no room for is left out: it would scroll away instead of being replaced.
    """
    columns, rows = shutil.get_terminal_size()
    fitting = [line[: columns - 1] for line in lines[: rows - 1]]
    start = f"\x1b[{above}A\x1b[J" if above else ""
    print(start + "\n".join(fitting), flush=True)
    return len(fitting)
