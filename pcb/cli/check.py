"""The verbs that check: this machine, and this code against the released one."""

import argparse
from pathlib import Path

from pcb.cli.verb import Verbs, add_verb
from pcb.config.paths import PARAMS


def add_verbs(verbs: Verbs) -> None:
    """Add `doctor` and `parity`."""
    doctor = add_verb(
        verbs,
        "doctor",
        _doctor,
        "say what this machine has and lacks for each preset, and which results are here",
        "pcb doctor",
    )
    doctor.add_argument("--params", type=Path, default=PARAMS, metavar="FILE")
    parity = add_verb(
        verbs,
        "parity",
        _parity,
        "compare with the values recorded beside released weights (exit status 1 if any is out)",
        "pcb parity pretrained_models/checkerboard-L-2x",
    )
    parity.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        help="a folder in the released layout, or one recorded of another system",
    )


def _doctor(arguments: argparse.Namespace) -> int:
    from pcb.preflight.doctor import examine

    return examine(arguments.params)


def _parity(arguments: argparse.Namespace) -> int:
    from pcb.external.parity import main

    return main(arguments.folder)
