"""What is timed: parts of the program, each at one size and ready to run.

A part's module has a function `parts(scope)` (`benchmarks.catalogue`); the tensors of a part are
made when it is measured, and are gone when the next one is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from pcb.preflight.rates import Kind

Scope = Literal["quick", "short", "full"]
"""`quick` shows in seconds that it runs; `short` is what two CPU cores carry in minutes; `full` is
for GPUs. A part that is in one is in those after it, unless its module says otherwise."""
Precision = Literal["float32", "bfloat16", "float16"]

FAST, BASELINE = "fast", "baseline"
"""The variants that most parts have: the program as it is, and without any optimisation."""


def suffix(precision: Precision) -> str:
    """Return what a part's name ends in, where its precision is not the usual one."""
    return "" if precision == "float32" else f"-{precision}"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Work that must be over before the next phase begins: operations, and bytes of memory moved.

    Bytes are those that no program could spare: weights and caches read once, results written.
    """

    flops: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """A part that is ready to run.

    variants: name -> a call that handles `items` items; the first is the program as it is, and
    ratios are those of the others' time to its. phases: its least work, empty where no bound is
    known. settings: what the numbers depend on, to be printed. differences: measures how far each
    other variant's results are from the first one's, by name; asked once.
    """

    variants: Mapping[str, Callable[[], object]]
    items: int
    phases: tuple[Phase, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    differences: Callable[[], dict[str, dict[str, float]]] | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part by name, `area/what/size`: what one item of it is, and how it is made ready.

    precision: of its matrix products. kind: what `pcb plan` may take its rate for; None for what no
    plan counts.
    """

    name: str
    item: str
    make: Callable[[torch.device], Case]
    precision: Precision = "float32"
    kind: Kind | None = None
