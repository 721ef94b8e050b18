"""Helpers that add a verb to the command line: one help line, one example, one function."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from pcb.config.loader import active_preset, load_params, parse_preset
from pcb.config.paths import PARAMS
from pcb.pipeline.tasks import Pipeline

Verbs: TypeAlias = "argparse._SubParsersAction[Any]"
Run = Callable[[argparse.Namespace], int]


Formatter = partial(argparse.RawDescriptionHelpFormatter, max_help_position=22, width=100)
"""Keeps examples as they are written, and a verb and its help on one line."""


def add_verb(verbs: Verbs, name: str, run: Run, help: str, example: str) -> argparse.ArgumentParser:
    """Add a verb whose function returns the exit status, and return its parser."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=help,
        description=f"{help[:1].upper()}{help[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=Formatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Let a verb be told which preset of which file it is about."""
    parser.add_argument("--preset", help="default: $PCB_PRESET, else `preset` in params.yaml")
    parser.add_argument(
        "--params", type=Path, default=PARAMS, metavar="FILE", help="default: %(default)s"
    )


def pipeline_of(arguments: argparse.Namespace) -> Pipeline:
    """Return the tasks of the preset that the arguments name."""
    params = load_params(arguments.params)
    name = arguments.preset or active_preset(params)
    return Pipeline(name, parse_preset(params, name, str(arguments.params)))
