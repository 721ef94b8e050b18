"""The `pcb` command: its parser, and how errors reach the user.

Whatever a user can put right is one line on stderr and status 1 (2 for a wrong command line).
Importing this imports neither torch nor numpy, so that `pcb --help` is quick.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pcb
from pcb.cli import check, external, generate, jobs, make, measure, results, show, workflow
from pcb.cli.verb import Formatter
from pcb.errors import UserError
from pcb.runtime.atomic import explain_disk_error
from pcb.runtime.surroundings import prepare_surroundings

EXAMPLES = """\
examples:
  make reproduce                  everything from data to report (this calls the verbs below)
  pcb schedule --ratio 2 --blocks 4
  pcb train ratio2 --preset smoke
  pcb doctor
`pcb VERB --help` has an example for each verb.
"""
INTERRUPTED = 128 + 2
"""The exit status by which a shell knows SIGINT."""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(2, f"pcb: {message}; see `{self.prog} --help`\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="pcb",
        description="Progressive checkerboards: train, sample and measure, one task at a time.",
        epilog=EXAMPLES,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"pcb {pcb.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    make.add_verbs(verbs)
    workflow.add_verbs(verbs)
    generate.add_verbs(verbs)
    show.add_verbs(verbs)
    external.add_verbs(verbs)
    jobs.add_verbs(verbs)
    results.add_verbs(verbs)
    check.add_verbs(verbs)
    measure.add_verbs(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    return run(build_parser(), arguments)


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Parse, call what the parser has set as `run`, and return the exit status."""
    prepare_surroundings()
    parsed = parser.parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("interrupted; the same command resumes", INTERRUPTED)
    except UserError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pcb"):
            raise
        return _fail(f"needs the package {error.name}, which is not installed; run `make install`")
    except BrokenPipeError:
        # Whoever read the output has gone; so that Python doesn't complain at exit either:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        explained = explain_disk_error(error, Path.cwd())
        if explained is None:
            raise
        return _fail(str(explained))
    return status


def _fail(message: str, status: int = 1) -> int:
    print(f"pcb: {message}", file=sys.stderr, flush=True)
    return status
