"""Parts that are neither network nor data: starting up, and the order of the tokens."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec

import torch

from benchmarks.case import FAST, Case, Part, Scope
from pcb.model.sequence import sequence_of
from pcb.order.allocation import schedule_from_total
from pcb.order.checkerboard import drawing_order
from pcb.order.schedule import scale_sizes

_FINAL, _STEPS = 16, 17


def parts(scope: Scope) -> Iterator[Part]:
    """Yield what stands between a command and its work."""
    yield Part(name="program/order", item="orders", make=_order)
    yield Part(name="program/schedule", item="schedules", make=_schedule)
    yield _command("help", "-m", "pcb", "--help")
    if scope != "quick" and find_spec("snakemake"):
        yield _command("dry-run", "-m", "snakemake", "-n", "--quiet", "all", "--cores", "1")


def _order(_: torch.device) -> Case:
    """Order the cells of the finest grid."""
    return Case(variants={FAST: lambda: drawing_order(_FINAL)}, items=1)


def _schedule(_: torch.device) -> Case:
    """Lay out 17 steps of a 2x model."""
    sizes = scale_sizes(_FINAL, 2.0, 1)
    return Case(variants={FAST: lambda: sequence_of(schedule_from_total(sizes, _STEPS))}, items=1)


def _command(name: str, *arguments: str) -> Part:
    return Part(name=f"program/{name}", item="starts", make=partial(_start, arguments))


def _start(arguments: Sequence[str], _: torch.device) -> Case:
    """Run a command of Python's in the working directory, on the smallest preset."""
    environment = {**os.environ, "PCB_PRESET": "smoke"}

    def start() -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    return Case(variants={FAST: start}, items=1, settings={"command": " ".join(arguments)})
