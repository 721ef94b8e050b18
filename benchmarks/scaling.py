"""Curves: what grows along them, and how each of their points is made ready."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch

from benchmarks.case import FAST, Case
from benchmarks.loading import read_tokens
from benchmarks.rank import Team
from benchmarks.standins import random_model, what_is_drawn
from benchmarks.training import random_objective
from pcb.config.loader import load_preset
from pcb.metrics.frechet import frechet_distance
from pcb.metrics.precision_recall import precision_recall
from pcb.metrics.statistics import statistics_of
from pcb.order.schedule import num_tokens, schedule_from_blocks
from pcb.sample.pyramid import sampler_for

_GRIDS = (8, 16, 32, 64)
_MODEL, _BLOCKS = "s-2x", 4
_FEATURES, _REFERENCE, _NEAREST = 2048, 2000, 3
_READ = 64
_RANKS_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Time of a call, and peak memory, against the number that `against` names.

    points: that number -> what makes the call ready. cpu_alone: whether it says nothing of a GPU.
    """

    name: str
    title: str
    against: str
    points: Mapping[int, Callable[[torch.device], Case]]
    cpu_alone: bool = False


def curves() -> tuple[Curve, ...]:
    """Return all curves, in the order in which they are drawn."""
    tokens = {num_tokens(load_preset("paper").models[_MODEL].model.sizes(g)): g for g in _GRIDS}
    return (
        Curve(
            name="training",
            title="training step, S-2x, one image",
            against="tokens",
            points={count: partial(_training, grid) for count, grid in tokens.items()},
        ),
        Curve(
            name="sampling",
            title="drawing one image, S-2x, four blocks a scale",
            against="tokens",
            points={count: partial(_sampling, grid, 1) for count, grid in tokens.items()},
        ),
        Curve(
            name="batch",
            title="drawing a batch, S-2x, 256 pixels",
            against="images of a batch",
            points={images: partial(_sampling, 16, images) for images in (1, 2, 4, 8, 16)},
        ),
        Curve(
            name="scoring",
            title="Fréchet distance, precision and recall",
            against="generated images",
            points={images: partial(_scoring, images) for images in (2500, 5000, 10_000)},
        ),
        Curve(
            name="tokens",
            title=f"reading the codes of {_READ} images",
            against="images in the cache",
            points={images: partial(read_tokens, images, _READ) for images in (1024, 4096, 16384)},
        ),
        Curve(
            name="ranks",
            title=f"training step, miniature, {_RANKS_BATCH} images in all",
            against="ranks",
            points={world: partial(_ranks, world) for world in (1, 2)},
            cpu_alone=True,
        ),
    )


def _training(grid: int, device: torch.device) -> Case:
    """Take a step on an image of this many tokens a side."""
    objective = random_objective("S-2x", 1, device, grid=grid)
    batch = objective.batch(0)
    iterations = count()
    return Case(variants={FAST: lambda: objective.step(next(iterations), batch)}, items=1)


def _sampling(grid: int, images: int, device: torch.device) -> Case:
    """Draw images of this many tokens a side, without guidance."""
    preset = load_preset("paper")
    schedule = schedule_from_blocks(preset.models[_MODEL].model.sizes(grid), _BLOCKS)
    model = random_model(preset, _MODEL, schedule.sizes).to(device).eval().requires_grad_(False)
    classes_B, uniforms_BT = what_is_drawn(model, images)
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
    """Take steps as the first of so many processes, a thread each, that share a batch."""
    return Case(variants={FAST: Team.start(world, _RANKS_BATCH).step}, items=_RANKS_BATCH)
