"""Several trainings of one model: their mean, and how far another seed lies from it."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pcb.config.seeds import model_and_seed
from pcb.order.allocation import allocation_of
from pcb.order.schedule import Schedule
from pcb.report.likelihood import Array, standard_error
from pcb.report.order_study import Measured
from pcb.report.rows import Row
from pcb.report.tables import NOTHING, Table

_DECIMALS = 2
"""Of nats: the deviation of two trainings may be small by chance."""
_SCORES = ("fid", "is", "precision", "recall", "kid")
_HEADINGS = ("FID", "IS", "precision", "recall", "KID")


def over_seeds(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with those of several seeds of one model as one, named after the model.

    Its scores are means over the trainings that were run, and `<score>_std` their standard
    deviation, in the place of what a bootstrap over images says. A model of one seed stays.
    """
    return _over_seeds(rows, _deviation)


def means_over_seeds(rows: Iterable[Row]) -> list[Row]:
    """Return the same rows, `<score>_std` being the standard error of the mean.

    That is of trainings and of images together; some of the latter's is in the former's already, so
    it is rather too large.
    """
    return _over_seeds(rows, _error)


Spread = Callable[[Sequence[float], Sequence[float]], float | None]
"""Of a score's values, one per training, and of their standard errors over images."""


def _over_seeds(rows: Iterable[Row], spread: Spread) -> list[Row]:
    return [_mean(model, own, spread) for (model, _), own in _trainings(rows).items()]


def _trainings(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return (model, setting) -> its rows, one for each seed."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((model_and_seed(row.model)[0], row.setting), []).append(row)
    return groups


def _deviation(values: Sequence[float], _: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _error(values: Sequence[float], errors: Sequence[float]) -> float | None:
    over_images = math.sqrt(sum(error**2 for error in errors)) / len(values)
    if len(values) == 1:
        return over_images if errors else None
    return math.hypot(over_images, float(np.std(values, ddof=1)) / math.sqrt(len(values)))


def _mean(model: str, own: Sequence[Row], spread: Spread) -> Row:
    run = [row for row in own if row.was_run]
    if len(own) == 1 or not run:
        return replace(own[0], model=model)
    scores = {}
    for name in run[0].scores:
        values = [row.scores[name] for row in run if name in row.scores]
        if name.endswith("_std"):
            continue
        scores[name] = float(np.mean(values))
        errors = [row.scores[f"{name}_std"] for row in run if f"{name}_std" in row.scores]
        width = spread(values, errors)
        if width is not None:
            scores[f"{name}_std"] = width
    seconds = [row.sampling_seconds for row in run if row.sampling_seconds is not None]
    mean_seconds = float(np.mean(seconds)) if seconds else None
    return replace(own[0], model=model, scores=scores, sampling_seconds=mean_seconds)


def seeds_table(rows: Sequence[Row]) -> Table:
    """Return mean and standard deviation of the scores over the seeds of every model with some."""
    lines = []
    for (model, setting), own in _trainings(row for row in rows if row.was_run).items():
        if len(own) < 2:
            continue
        cells = (_spread([row.scores[s] for row in own if s in row.scores]) for s in _SCORES)
        lines.append((model, setting, str(own[0].steps), str(len(own)), *cells))
    return Table(
        name="seeds",
        caption="Scores over the seeds of training: mean ± standard deviation.",
        header=("model", "setting", "steps", "seeds", *_HEADINGS),
        rows=tuple(lines),
        text_columns=2,
    )


def likelihood_seeds_table(measured: Sequence[Measured]) -> Table:
    """Return NLL and the price of parallel sampling over the seeds of every model with some.

    The price is taken training by training, so that it varies less than the NLL.
    """
    nll: dict[str, dict[Schedule, dict[int, Array]]] = {}
    for one in measured:
        model, seed = model_and_seed(one.model)
        nll.setdefault(model, {}).setdefault(one.schedule, {})[seed] = one.nll_N
    places = measured[0].places if measured else None
    lines = []
    for model, by_schedule in nll.items():
        finest = max(by_schedule, key=lambda schedule: schedule.steps)
        serial = by_schedule[finest]
        for schedule, by_seed in sorted(by_schedule.items(), key=lambda item: item[0].steps):
            if len(by_seed) < 2:
                continue
            means = [float(nll_N.mean()) for nll_N in by_seed.values()]
            price = error = NOTHING
            prices_RN = [by_seed[seed] - serial[seed] for seed in by_seed if seed in serial]
            if schedule != finest and prices_RN:
                price = _spread([float(price_N.mean()) for price_N in prices_RN], _DECIMALS)
                error = f"{standard_error(np.mean(prices_RN, axis=0), places):.2f}"
            blocks = " ".join(map(str, schedule.blocks_per_scale))
            counts = (str(schedule.steps), str(len(by_seed)))
            allocation = allocation_of(schedule)
            nll_text = _spread(means, _DECIMALS)
            lines.append((model, blocks, allocation, *counts, nll_text, price, error))
    return Table(
        name="likelihood_seeds",
        caption="Likelihood over the seeds of training: NLL of held-out images and the price of "
        "parallel sampling, NLL above that of one token per block, in nats per image; mean ± "
        "standard deviation over trainings. Error: standard error over held-out images of the "
        "price's mean.",
        header=(
            *("model", "blocks per scale", "allocation", "steps", "seeds"),
            *("NLL", "price", "error"),
        ),
        rows=tuple(lines),
        text_columns=3,
    )


def _spread(values: Sequence[float], most: int = 6) -> str:
    """Return mean ± standard deviation with the digits that this leaves, `most` at most."""
    if not values:
        return NOTHING
    found: NDArray[np.float64] = np.array(values)
    if len(found) < 2:
        return f"{found[0]:.4g}"
    deviation = float(found.std(ddof=1))
    digits = min(most, max(0, 1 - int(np.floor(np.log10(deviation))))) if deviation > 0 else 2
    return f"{found.mean():.{digits}f} ± {deviation:.{digits}f}"
