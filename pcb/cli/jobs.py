"""The verb `jobs`: shows Slurm jobs, and cancels them."""

import argparse

from pcb.cli.verb import Verbs, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add `jobs`."""
    jobs = add_verb(
        verbs,
        "jobs",
        _jobs,
        "show the jobs that were submitted from this folder and are not done, or cancel them",
        "pcb jobs --watch\n  pcb jobs --cancel train/ratio2",
    )
    chosen = jobs.add_mutually_exclusive_group()
    chosen.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="show them again and again until all are done, every %(const)g seconds if not told",
    )
    chosen.add_argument(
        "--cancel", nargs="?", const="", metavar="TASK", help="cancel all jobs, or one task's"
    )


def _jobs(arguments: argparse.Namespace) -> int:
    from pcb.launch.table import cancel_jobs, print_jobs, watch_jobs

    if arguments.cancel is not None:
        return cancel_jobs(arguments.cancel)
    return print_jobs() if arguments.watch is None else watch_jobs(arguments.watch)


def _seconds(text: str) -> float:
    """Read a time to wait."""
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text}: expected more than 0 seconds")
    return seconds
