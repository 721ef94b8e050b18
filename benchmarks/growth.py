"""How time and memory grow: curves, each point of them measured in a process of its own."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context

import torch

from benchmarks.machine import measure_machine
from benchmarks.measure import FAST, Case, Measured, Part, Results, measure_part
from benchmarks.sampling import drawn, random_model
from benchmarks.stages import read_tokens
from benchmarks.training import random_objective, step_of_ranks
from pcb.config.loader import load_preset
from pcb.errors import UserError
from pcb.metrics.frechet import frechet_distance
from pcb.metrics.precision_recall import precision_recall
from pcb.metrics.statistics import statistics_of
from pcb.order.schedule import num_tokens, schedule_from_blocks
from pcb.sample.pyramid import sampler_for

_ROUNDS, _BUDGET = 5, 20.0
_GRIDS = (8, 16, 32, 64)
_MODEL, _BLOCKS = "s-2x", 4
_FEATURES, _REFERENCE, _NEAREST = 2048, 2000, 3
_READ = 64
_RANKS_BATCH = 16


@dataclass(frozen=True)
class Curve:
    """Time of a call, and peak memory, against the number that `against` names.

    points: that number -> what makes the call ready.
    """

    name: str
    title: str
    against: str
    points: Mapping[int, Callable[[torch.device], Case]]


def curves() -> tuple[Curve, ...]:
    """Return all curves, in the order in which they are plotted."""
    tokens = {num_tokens(load_preset("paper").models[_MODEL].model.sizes(g)): g for g in _GRIDS}
    return (
        Curve(
            "training",
            "training step, S-2x, one image",
            "tokens",
            {count: partial(_training, grid) for count, grid in tokens.items()},
        ),
        Curve(
            "sampling",
            "sampling one image, S-2x, four blocks per scale",
            "tokens",
            {count: partial(_sampling, grid, 1) for count, grid in tokens.items()},
        ),
        Curve(
            "batch",
            "sampling a batch, S-2x, 256 pixels",
            "images of a batch",
            {images: partial(_sampling, 16, images) for images in (1, 2, 4, 8, 16)},
        ),
        Curve(
            "scoring",
            "Fréchet distance, precision and recall",
            "generated images",
            {images: partial(_scoring, images) for images in (2500, 5000, 10_000)},
        ),
        Curve(
            "tokens",
            f"reading the codes of {_READ} images",
            "images in the cache",
            {images: partial(read_tokens, images, _READ) for images in (1024, 4096, 16384)},
        ),
        Curve(
            "ranks",
            f"training step, miniature, {_RANKS_BATCH} images in all",
            "ranks",
            {world: partial(_ranks, world) for world in (1, 2)},
        ),
    )


def _training(grid: int, device: torch.device) -> Case:
    """Take a step on an image of this many tokens a side."""
    objective, iterations = random_objective("S-2x", 1, device, grid=grid), count()
    batch = objective.batch(0)
    return Case(variants={FAST: lambda: objective.step(next(iterations), batch)}, items=1)


def _sampling(grid: int, images: int, device: torch.device) -> Case:
    """Sample images of this many tokens a side, without guidance."""
    preset = load_preset("paper")
    schedule = schedule_from_blocks(preset.models[_MODEL].model.sizes(grid), _BLOCKS)
    model = random_model(preset, _MODEL, schedule.sizes).to(device).eval().requires_grad_(False)
    classes_B, uniforms_BT = drawn(model, images)
    sampler = sampler_for(model, schedule)
    return Case(variants={FAST: lambda: sampler.sample(classes_B, uniforms_BT)}, items=images)


def _scoring(images: int, device: torch.device) -> Case:
    """Compare random features with those of a reference."""
    torch.manual_seed(0)
    generated = torch.rand(images, _FEATURES, device=device)
    reference = torch.rand(_REFERENCE, _FEATURES, device=device)
    target = statistics_of(reference)

    def score() -> object:
        distance = frechet_distance(statistics_of(generated), target)
        return distance, precision_recall(generated, reference, _NEAREST)

    return Case(variants={FAST: score}, items=images)


def _ranks(world: int, _: torch.device) -> Case:
    """Take steps as the first of so many processes that share a batch."""
    return Case(variants={FAST: step_of_ranks(world, _RANKS_BATCH)}, items=_RANKS_BATCH)


Points = list[tuple[int, Measured]]
"""The points of a curve: the number, and what was measured there."""


def measure_growth(names: Sequence[str], device: torch.device, threads: int) -> Results:
    """Measure the curves of these names, all if there are none; parts are named `curve/number`.

    Raises UserError for a name that no curve has.
    """
    known = {curve.name: curve for curve in curves()}
    if device.type != "cpu":
        del known["ranks"]  # They share the cores of a CPU.
    unknown = set(names) - set(known)
    if unknown:
        there = ", ".join(known)
        raise UserError(f"benchmarks --growth {min(unknown)}: no such curve; there are {there}")
    torch.set_num_threads(threads)
    found = []
    # What a process has held once it may keep, so the next point would seem to hold it too.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for name in names or known:
            for number in known[name].points:
                print(f"benchmarks: {name}/{number}", file=sys.stderr, flush=True)
                found.append(fresh.submit(measure_point, name, number, device, threads).result())
    return Results(machine=measure_machine(device, ["float32"]), parts=tuple(found))


def measure_point(name: str, number: int, device: torch.device, threads: int) -> Measured:
    """Measure one point of a curve in this process."""
    torch.set_num_threads(threads)
    make = next(curve for curve in curves() if curve.name == name).points[number]
    part = Part(name=f"{name}/{number}", item="calls", make=make)
    return measure_part(part, device, _ROUNDS, _BUDGET)


def measured_curves(results: Results) -> Iterator[tuple[Curve, Points]]:
    """Yield the curves of which there are points, and those."""
    parts = {part.name: part for part in results.parts}
    for curve in curves():
        names = {number: f"{curve.name}/{number}" for number in curve.points}
        points = [(number, parts[name]) for number, name in names.items() if name in parts]
        if points:
            yield curve, points
