"""The comparison of orders by the likelihood of held-out images.

Models that differ in their order alone are compared, schedule by schedule, with the one of the
checkerboard, image by image and seed by seed. A difference has two errors: over the images, since
others could have been held out, and over trainings, since the same model trained with another seed
differs from itself. With one block per scale an order plays no part in sampling: that row is the
control, which only trainings can move.

Letters: S seeds, N held-out images, O orders.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pcb.config.loader import plain
from pcb.config.seeds import model_and_seed
from pcb.order.names import CHECKERBOARD
from pcb.order.schedule import Schedule
from pcb.report.evidence import Evidence
from pcb.report.likelihood import Places, standard_error
from pcb.report.style import ratio_label
from pcb.report.tables import NOTHING, Table
from pcb.runtime.hashing import content_hash

LEVEL = 0.95
"""A difference is named if it lies outside of the interval around zero that would hold so many by
chance: Student's t, since few trainings say what trainings change."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The likelihood of one training under one schedule: nll_N, nats of each held-out image."""

    model: str
    family: str
    """Equal for models that differ in order and seed alone."""
    order: str
    seed: int
    ratio: float | None
    schedule: Schedule
    nll_N: NDArray[np.float64]
    places: Places | None = None
    """Where images are from that are not independent."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How many nats an image costs more with an order than with the checkerboard."""

    order: str
    seeds: int
    """Trainings of both orders, paired."""
    mean: float
    over_images: float
    """Standard error over held-out images, of the mean over trainings."""
    over_trainings: float | None
    """Standard error over trainings; None where there is one of each order."""
    reach: float = math.inf
    """Standard errors within which chance keeps `LEVEL` of all differences."""

    @property
    def error(self) -> float | None:
        """Both errors together; None if nothing is known of trainings."""
        if self.over_trainings is None:
            return None
        return math.hypot(self.over_images, self.over_trainings)

    @property
    def stands_out(self) -> bool:
        """Whether it exceeds what images and trainings change by chance."""
        return self.error is not None and abs(self.mean) > self.reach * self.error


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All orders of one family under one schedule."""

    ratio: float | None
    schedule: Schedule
    nll: dict[str, NDArray[np.float64]]
    """Order -> mean NLL of each training in nats, by rising seed; the checkerboard comes first."""
    differences: tuple[Difference, ...]

    @property
    def control(self) -> bool:
        """Whether the order plays no part in sampling: one block per scale."""
        return max(self.schedule.blocks_per_scale) == 1


def measured(evidence: Evidence) -> Iterator[Measured]:
    """Yield every likelihood that was measured, in the order of params.yaml."""
    preset = evidence.preset
    for model, run in preset.models.items():
        _, seed = model_and_seed(model)
        settings = {key: value for key, value in plain(run.model).items() if key != "order"}
        training = None if run.training is None else plain(run.training)
        if training is not None:
            training.pop("seed")
        ratio = run.model.scale_ratio
        for config in preset.likelihood_configs(model):
            nll_NS = evidence.nll(f"{model}/{config.name}")
            if nll_NS is None:
                continue
            yield Measured(
                model=model,
                family=content_hash([settings, training]),
                order=run.model.order,
                seed=seed,
                ratio=None if ratio == "single" else float(ratio),
                schedule=config.schedule(preset.sizes(model)),
                nll_N=nll_NS.sum(1),
                places=evidence.places(len(nll_NS)),
            )


def compare_orders(measured: Iterable[Measured]) -> list[Comparison]:
    """Return a comparison for each family with another order than the checkerboard, and schedule.

    Families in the order given, schedules by rising number of steps.
    """
    groups: dict[str, dict[Schedule, list[Measured]]] = {}
    for one in measured:
        groups.setdefault(one.family, {}).setdefault(one.schedule, []).append(one)
    found = []
    for schedules in groups.values():
        for schedule, own in sorted(schedules.items(), key=lambda item: item[0].steps):
            orders = {one.order for one in own}
            if CHECKERBOARD in orders and len(orders) > 1:
                found.append(_compare(schedule, own))
    return found


def _compare(schedule: Schedule, own: Sequence[Measured]) -> Comparison:
    by_order: dict[str, dict[int, NDArray[np.float64]]] = {CHECKERBOARD: {}}
    for one in sorted(own, key=lambda one: one.seed):
        by_order.setdefault(one.order, {})[one.seed] = one.nll_N
    return Comparison(
        ratio=own[0].ratio,
        schedule=schedule,
        nll={
            order: np.array([float(nll.mean()) for nll in by_seed.values()])
            for order, by_seed in by_order.items()
        },
        differences=tuple(differences_of(by_order, own[0].places)),
    )


def differences_of(
    by_order: Mapping[str, Mapping[int, NDArray[np.float64]]], places: Places | None = None
) -> list[Difference]:
    """Return the difference of each order to the checkerboard, from order -> seed -> nats (N,).

    Trainings are a table of orders by seeds. What a seed does to all orders alike cancels in pairs;
    the variance of what is left, order by order, is that of the table's residuals: two or three
    trainings of one order say little of it, and all models of a family are trained alike. All
    differences share the checkerboard's trainings, which the residuals' (O - 1)(S - 1) degrees of
    freedom heed.
    """
    base = by_order[CHECKERBOARD]
    paired = {
        order: np.stack([nll[seed] - base[seed] for seed in nll if seed in base])
        for order, nll in by_order.items()
        if order != CHECKERBOARD and nll.keys() & base.keys()
    }
    variance, freedom = _of_one_training(by_order)
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) if freedom else math.inf
    return [
        Difference(
            order=order,
            seeds=len(d_SN),
            mean=float(d_SN.mean()),
            over_images=standard_error(d_SN.mean(0), places),
            over_trainings=math.sqrt(2 * variance / len(d_SN)) if freedom else None,
            reach=reach,
        )
        for order, d_SN in paired.items()
    ]


def _of_one_training(
    by_order: Mapping[str, Mapping[int, NDArray[np.float64]]],
) -> tuple[float, int]:
    """Return the variance of a training's mean beyond what its order and its seed do, and its df.

    Of the orders that were trained with every seed of the checkerboard. (0, 0) without repetition.
    """
    seeds = by_order[CHECKERBOARD].keys()
    whole = [nll for nll in by_order.values() if seeds <= nll.keys()]
    means_OS = np.array([[nll[seed].mean() for seed in seeds] for nll in whole])
    freedom = (len(whole) - 1) * (len(seeds) - 1)
    if freedom < 1:
        return 0.0, 0
    left_OS = means_OS - means_OS.mean(1, keepdims=True) - means_OS.mean(0) + means_OS.mean()
    return float((left_OS**2).sum()) / freedom, freedom


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Say in a few sentences what exceeds both errors, and that the rest is not told apart."""
    made = [(c, d) for c in comparisons if not c.control for d in c.differences]
    if not made:
        return ""
    if all(d.error is None for _, d in made):
        return (
            "Each order was trained once: how much another seed would change is not known, so no "
            "difference is named. More `seeds` tell."
        )
    out = [(c, d) for c, d in made if d.stands_out]
    chance = (
        f"{len(made)} differences were looked at; by chance about {len(made) * (1 - LEVEL):.0f} of "
    )
    chance += "them would stand out."
    if not out:
        return f"No order differs from the checkerboard by more than both errors. {chance}"
    sentences = []
    for key, pairs in _grouped(out).items():
        cells = ", ".join(
            f"{abs(d.mean):.1f} ± {d.error:.1f} at {c.schedule.steps} steps" for c, d in pairs
        )
        sentences.append(f"{key} by {cells}.")
    return (
        "What exceeds both errors, in nats per image: "
        + " ".join(sentences)
        + f" All else is within them. {chance}"
    )


def _grouped(
    out: Sequence[tuple[Comparison, Difference]],
) -> dict[str, list[tuple[Comparison, Difference]]]:
    """Group what stands out by ratio, order and sign, each group by what is said of it."""
    found: dict[str, list[tuple[Comparison, Difference]]] = {}
    for comparison, difference in out:
        than = "worse" if difference.mean > 0 else "better"
        said = f"{ratio_label(comparison.ratio)}, {difference.order} {than} than the checkerboard"
        found.setdefault(said, []).append((comparison, difference))
    return found


def orders_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the NLL of the checkerboard, and what every other order adds to it."""
    orders = list(dict.fromkeys(d.order for c in comparisons for d in c.differences))
    rows = []
    for comparison in comparisons:
        own = {d.order: d for d in comparison.differences}
        blocks = " ".join(map(str, comparison.schedule.blocks_per_scale))
        rows.append(
            (
                ratio_label(comparison.ratio),
                f"{blocks} (control)" if comparison.control else blocks,
                str(comparison.schedule.steps),
                f"{comparison.nll[CHECKERBOARD].mean():.1f}",
                *(_cell(own.get(order)) for order in orders),
            )
        )
    seeds = sorted({d.seeds for c in comparisons for d in c.differences})
    counts = " or ".join(map(str, seeds))
    return Table(
        name="orders",
        caption="Orders: NLL of held-out images with the checkerboard, in nats per image, and what "
        "other orders add to it, paired by image and seed: difference ± standard error over images "
        f"/ over trainings ({counts} of each order). A star marks what both errors together leave "
        "to chance once in twenty. With one block per scale the order plays no part: a control.",
        header=("ratio", "blocks per scale", "steps", CHECKERBOARD, *orders),
        rows=tuple(rows),
        text_columns=2,
    )


def _cell(difference: Difference | None) -> str:
    if difference is None:
        return NOTHING
    trainings = difference.over_trainings
    over = f" / {trainings:.1f}" if trainings is not None else ""
    star = " *" if difference.stands_out else ""
    return f"{difference.mean:+.1f} ± {difference.over_images:.1f}{over}{star}"
