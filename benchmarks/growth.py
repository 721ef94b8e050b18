"""Growth of time and memory: curves, each point of them a part."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch

from benchmarks.measure import Case, Measured, Part, Results, single
from benchmarks.sampling import random_batch, random_model
from benchmarks.stages import READ, read_tokens
from benchmarks.training import SHARED, random_objective, step_of_ranks
from pcb.metrics.frechet import frechet_distance
from pcb.metrics.precision_recall import precision_recall
from pcb.metrics.statistics import statistics_of
from pcb.order.schedule import num_tokens, scale_sizes
from pcb.sample.pyramid import sampler_for

_GRIDS = {num_tokens(scale_sizes(side, 2.0)): side for side in (8, 16, 32, 64)}
"""Tokens of a sequence of ratio 2 -> those of a side of its finest grid."""
_FEATURES, _REFERENCE, _NEAREST = 2048, 2000, 3
_BATCHES, _SCORED, _CACHED = (1, 2, 4, 8, 16), (2500, 5000, 10_000), (1024, 4096, 16_384)


def _step(tokens: int, device: torch.device) -> Case:
    """Take a step on an image of so many tokens."""
    objective, iterations = random_objective("S-2x", 1, device, grid=_GRIDS[tokens]), count()
    batch = objective.batch(0)
    return single(lambda: objective.step(next(iterations), batch))


def _sample(tokens: int, device: torch.device, images: int = 1) -> Case:
    """Sample images of so many tokens, without guidance."""
    _, model, schedule = random_model("S-2x", device, grid=_GRIDS[tokens])
    batch, sampler = random_batch(model, images), sampler_for(model, schedule)
    return single(lambda: sampler.sample(*batch), images)


def _batch(images: int, device: torch.device) -> Case:
    return _sample(341, device, images)


def _score(images: int, device: torch.device) -> Case:
    """Compare random features with those of a reference."""
    torch.manual_seed(0)
    generated = torch.rand(images, _FEATURES, device=device)
    reference = torch.rand(_REFERENCE, _FEATURES, device=device)
    target = statistics_of(reference)

    def score() -> object:
        distance = frechet_distance(statistics_of(generated), target)
        return distance, precision_recall(generated, reference, _NEAREST)

    return single(score, images)


@dataclass(frozen=True)
class Curve:
    """Time and peak memory of a call against a number, which `against` names and `make` takes."""

    name: str
    title: str
    against: str
    numbers: Collection[int]
    make: Callable[[int, torch.device], Case]


CURVES = (
    Curve("training", "training step, S-2x, one image", "tokens", _GRIDS, _step),
    Curve("sampling", "sampling one image, S-2x, four blocks per scale", "tokens", _GRIDS, _sample),
    Curve("batch", "sampling a batch, S-2x, 256 pixels", "images of a batch", _BATCHES, _batch),
    Curve("scoring", "Fréchet distance, precision and recall", "generated images", _SCORED, _score),
    Curve(
        "tokens", f"reading the codes of {READ} images", "images in the cache", _CACHED, read_tokens
    ),
    Curve(
        "ranks", f"training step, miniature, {SHARED} images in all", "ranks", (1, 2), step_of_ranks
    ),
)
"""In the order in which they are plotted."""


def parts(device: torch.device) -> Iterator[Part]:
    """Yield the points of all curves that a device has, named `curve/number`."""
    for curve in CURVES:
        if curve.name == "ranks" and device.type != "cpu":
            continue  # They share the cores of a CPU.
        for number in curve.numbers:
            yield Part(f"{curve.name}/{number}", partial(curve.make, number), "calls")


def measured_curves(results: Results) -> Iterator[tuple[Curve, list[tuple[int, Measured]]]]:
    """Yield the curves of which there are points, and those: number, and what was measured."""
    for curve in CURVES:
        own = [part for part in results.parts if part.name.startswith(f"{curve.name}/")]
        if own:
            yield curve, [(int(part.name.rpartition("/")[2]), part) for part in own]
