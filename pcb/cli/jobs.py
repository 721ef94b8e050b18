"""The verb that shows jobs, and cancels them."""

import argparse

from pcb.cli.verb import Verbs, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add `jobs`."""
    jobs = add_verb(
        verbs,
        "jobs",
        _jobs,
        "show the jobs that were submitted from this folder and are not done, or cancel them",
        "pcb jobs\n  pcb jobs --cancel train/ratio2",
    )
    jobs.add_argument(
        "--cancel", nargs="?", const="", metavar="UNIT", help="cancel all jobs, or one unit's"
    )


def _jobs(arguments: argparse.Namespace) -> int:
    from pcb.launch.table import cancel_jobs, print_jobs

    if arguments.cancel is None:
        return print_jobs()
    return cancel_jobs(arguments.cancel)
