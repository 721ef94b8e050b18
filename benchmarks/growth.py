"""How time and memory grow: curves, each point of them measured in a process of its own."""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context

import torch

from benchmarks.machine import measure_machine
from benchmarks.measure import Case, Measured, Part, Results, measure_part, single
from benchmarks.sampling import drawn, model_and_schedule
from benchmarks.stages import READ, read_tokens
from benchmarks.training import random_objective, step_of_ranks
from pcb.errors import UserError
from pcb.metrics.frechet import frechet_distance
from pcb.metrics.precision_recall import precision_recall
from pcb.metrics.statistics import statistics_of
from pcb.order.schedule import num_tokens, scale_sizes
from pcb.sample.pyramid import sampler_for

_ROUNDS, _BUDGET = 5, 20.0
_GRIDS = {num_tokens(scale_sizes(side, 2.0)): side for side in (8, 16, 32, 64)}
"""Tokens of a sequence of ratio 2 -> those of a side of its finest grid."""
_FEATURES, _REFERENCE, _NEAREST = 2048, 2000, 3
_SCORED, _CACHED, _SHARED = (2500, 5000, 10_000), (1024, 4096, 16_384), 16


def _training(tokens: int, device: torch.device) -> Case:
    """Take a step on an image of so many tokens."""
    objective, iterations = random_objective("S-2x", 1, device, grid=_GRIDS[tokens]), count()
    batch = objective.batch(0)
    return single(lambda: objective.step(next(iterations), batch))


def _sampling(tokens: int, device: torch.device, images: int = 1) -> Case:
    """Sample images of so many tokens, without guidance."""
    _, model, schedule = model_and_schedule("S-2x", device, grid=_GRIDS[tokens])
    batch, sampler = drawn(model, images), sampler_for(model, schedule)
    return single(lambda: sampler.sample(*batch), images)


def _batch(images: int, device: torch.device) -> Case:
    return _sampling(341, device, images)


def _scoring(images: int, device: torch.device) -> Case:
    """Compare random features with those of a reference."""
    torch.manual_seed(0)
    generated = torch.rand(images, _FEATURES, device=device)
    reference = torch.rand(_REFERENCE, _FEATURES, device=device)
    target = statistics_of(reference)

    def score() -> object:
        distance = frechet_distance(statistics_of(generated), target)
        return distance, precision_recall(generated, reference, _NEAREST)

    return single(score, images)


def _ranks(world: int, _: torch.device) -> Case:
    """Take steps as the first of so many processes that share a batch."""
    return single(step_of_ranks(world, _SHARED), _SHARED)


@dataclass(frozen=True)
class Curve:
    """Time of a call, and peak memory, against the number that `against` names.

    make: what makes the call of one of `numbers` ready.
    """

    name: str
    title: str
    against: str
    numbers: Collection[int]
    make: Callable[[int, torch.device], Case]


CURVES = (
    Curve("training", "training step, S-2x, one image", "tokens", _GRIDS, _training),
    Curve(
        "sampling", "sampling one image, S-2x, four blocks per scale", "tokens", _GRIDS, _sampling
    ),
    Curve(
        "batch", "sampling a batch, S-2x, 256 pixels", "images of a batch", (1, 2, 4, 8, 16), _batch
    ),
    Curve(
        "scoring", "Fréchet distance, precision and recall", "generated images", _SCORED, _scoring
    ),
    Curve(
        "tokens", f"reading the codes of {READ} images", "images in the cache", _CACHED, read_tokens
    ),
    Curve("ranks", f"training step, miniature, {_SHARED} images in all", "ranks", (1, 2), _ranks),
)
"""In the order in which they are plotted."""

Points = list[tuple[int, Measured]]
"""The points of a curve: the number, and what was measured there."""


def measure_growth(names: Sequence[str], device: torch.device, threads: int) -> Results:
    """Measure the curves of these names, all if there are none; parts are named `curve/number`.

    Raises UserError for a name that no curve has.
    """
    known = {curve.name: curve for curve in CURVES}
    if device.type != "cpu":
        del known["ranks"]  # They share the cores of a CPU.
    if unknown := set(names) - set(known):
        there = ", ".join(known)
        raise UserError(f"benchmarks --growth {min(unknown)}: no such curve; there are {there}")
    torch.set_num_threads(threads)
    found = []
    # What a process has held once it may keep, so the next point would seem to hold it too.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for name in names or known:
            for number in known[name].numbers:
                print(f"benchmarks: {name}/{number}", file=sys.stderr, flush=True)
                found.append(fresh.submit(measure_point, name, number, device, threads).result())
    return Results(machine=measure_machine(device, ["float32"]), parts=tuple(found))


def measure_point(name: str, number: int, device: torch.device, threads: int) -> Measured:
    """Measure one point of a curve in this process."""
    torch.set_num_threads(threads)
    curve = next(curve for curve in CURVES if curve.name == name)
    part = Part(name=f"{name}/{number}", item="calls", make=partial(curve.make, number))
    return measure_part(part, device, _ROUNDS, _BUDGET)


def measured_curves(results: Results) -> Iterator[tuple[Curve, Points]]:
    """Yield the curves of which there are points, and those."""
    parts = {part.name: part for part in results.parts}
    for curve in CURVES:
        found = {number: parts.get(f"{curve.name}/{number}") for number in curve.numbers}
        if points := [(number, part) for number, part in found.items() if part is not None]:
            yield curve, points
