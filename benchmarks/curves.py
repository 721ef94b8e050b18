"""How time and memory grow: each point of a curve measured in a process of its own."""

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import torch

from benchmarks.case import Part
from benchmarks.machine import Machine, measure_machine
from benchmarks.measure import Measured, measure_case
from benchmarks.scaling import Curve, curves
from pcb.config import Settings
from pcb.errors import UserError
from pcb.runtime.device import set_tf32

_ROUNDS, _BUDGET = 5, 20.0


class Grown(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured curve: `points` are the numbers of things, `measured` what they took."""

    name: str
    title: str
    against: str
    points: tuple[int, ...]
    measured: tuple[Measured, ...]

    @property
    def orders(self) -> tuple[float | None, ...]:
        """How time grows from the point before: 1 as the number itself, 2 as its square."""
        steps = pairwise(zip(self.points, self.measured, strict=True))
        found = (math.log(b.median / a.median) / math.log(n / m) for (m, a), (n, b) in steps)
        return (None, *found)


class Growth(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine and its curves."""

    machine: Machine
    curves: tuple[Grown, ...]


def measure_growth(names: Sequence[str], device: torch.device, threads: int) -> Growth:
    """Measure the curves of these names, all if there are none.

    Raises UserError for a name that no curve has.
    """
    known = {curve.name: curve for curve in curves() if device.type == "cpu" or not curve.cpu_alone}
    unknown = set(names) - set(known)
    if unknown:
        there = ", ".join(known)
        raise UserError(f"bench --growth {min(unknown)}: no such curve; there are {there}")
    torch.set_num_threads(threads)
    return Growth(
        machine=measure_machine(device, {"float32"}),
        curves=tuple(
            _grown(curve, device, threads)
            for name, curve in known.items()
            if not names or name in names
        ),
    )


def _grown(curve: Curve, device: torch.device, threads: int) -> Grown:
    # What a process has held once it may keep, so the next point would seem to hold it too.
    fresh = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)
    found = []
    with fresh as pool:
        for number in curve.points:
            print(f"pcb bench: {curve.name}, {number} {curve.against}", file=sys.stderr, flush=True)
            found.append(pool.submit(measure_point, curve.name, number, device, threads).result())
    return Grown(
        name=curve.name,
        title=curve.title,
        against=curve.against,
        points=tuple(curve.points),
        measured=tuple(found),
    )


def measure_point(name: str, number: int, device: torch.device, threads: int) -> Measured:
    """Measure one point of a curve in this process."""
    torch.set_num_threads(threads)
    set_tf32(False)
    make = next(curve for curve in curves() if curve.name == name).points[number]
    part = Part(name=f"{name}/{number}", item="calls", make=make)
    return measure_case(part, make(device), device, _ROUNDS, _BUDGET)
