"""The verb that runs Snakemake, as `make reproduce` and DVC's stages do."""

import argparse
import os
import sys
from typing import NoReturn

from pcb.cli.verb import Verbs, add_verb
from pcb.pipeline.execution import active_launcher

_PROFILES = "workflow/profiles"
_PROFILE_VARIABLE = "SNAKEMAKE_PROFILE"


def add_verbs(verbs: Verbs) -> None:
    """Add `workflow`."""
    parser = add_verb(
        verbs,
        "workflow",
        _workflow,
        "run Snakemake on the Snakefile, as `make reproduce` does",
        "pcb workflow\n  pcb workflow train_all\n  pcb workflow -- --dry-run",
    )
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="what Snakemake is told besides"
    )


def _workflow(arguments: argparse.Namespace) -> NoReturn:
    """Become Snakemake, with this project's profile and nobody else's."""
    other = os.environ.pop(_PROFILE_VARIABLE, None)
    if other:
        print(f"pcb: {_PROFILE_VARIABLE}={other} is not heeded here", file=sys.stderr, flush=True)
    profile = "slurm" if active_launcher() == "slurm" else "default"
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", f"{_PROFILES}/{profile}"]
    # What follows a first `--` may begin with dashes.
    further = arguments.arguments
    os.execv(sys.executable, [*command, *(further[1:] if further[:1] == ["--"] else further)])
