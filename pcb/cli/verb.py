"""How a verb is added to the command line: one help line, one example, one function."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

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
