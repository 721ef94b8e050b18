"""Claims C1a to C3 by the likelihood of held-out images: what parallel sampling costs.

Numbers are fractions of the negative log-likelihood (NLL) at one token per block. Errors are over
paired images, and over trainings where a model was trained with several seeds: numbers are then
means over these. Where there was one training, what another seed would change is not in the error:
limits leave room for it.

Letters: N held-out images, R trainings.
"""

import math
from collections.abc import Callable, Mapping, Sequence, Sized

import numpy as np

from pcb.config import Claims
from pcb.config.seeds import model_and_seed
from pcb.report.groups import Repeated, at_steps, complete_groups, repeated, twins
from pcb.report.likelihood import (
    Array,
    Nats,
    Places,
    mean_with_error,
    over_trainings,
    standard_error,
)
from pcb.report.rows import Row
from pcb.report.verdict import Check, Reading, percent

NAME = "likelihood"
_NOT_MEASURED = "The likelihood of held-out images was not measured"


def few_steps_cost(rows: Sequence[Row], limits: Claims) -> Reading:
    """C1a: one block per scale loses likelihood."""
    checks = []
    for model, own in repeated(rows).items():
        for coarse in [one for one in own if one.rows[0].one_block]:
            checks.append(_lost(model, coarse, limits.few_steps_price))
    test = (
        f"For every model in checkerboard order: one block per scale loses at least "
        f"{percent(limits.few_steps_price)} of the likelihood that one token per block has."
    )
    return Reading(name=NAME, test=test, checks=tuple(checks), missing=_missing(checks))


def more_steps_gain_nothing(rows: Sequence[Row], limits: Claims) -> Reading:
    """C1b: more than the compared steps gain next to none."""
    steps, checks = limits.compare_steps, []
    for model, own in repeated(rows).items():
        base = at_steps(own, steps)
        if base is not None:
            finer = (one for one in own if one.steps > steps)
            checks += [_gain(model, base, fine, limits.flat_price) for fine in finer]
    test = (
        f"For every model in checkerboard order that has a schedule of {steps} steps: more steps, "
        f"one token per block included, gain at most {percent(limits.flat_price)} of the "
        f"likelihood on these."
    )
    return Reading(name=NAME, test=test, checks=tuple(checks), missing=_missing(checks))


def ratios_pay_alike(rows: Sequence[Row], limits: Claims) -> Reading:
    """C2: at equal steps the ratios lose nearly the same."""
    groups = complete_groups(rows, limits.ratios)
    checks = [_spread(group, steps, limits) for group in groups for steps in limits.equal_steps]
    ratios = ", ".join(f"{ratio:g}" for ratio in limits.ratios)
    test = (
        f"Ratios {ratios}, models alike in all else, at "
        f"{' and at '.join(map(str, limits.equal_steps))} total steps: what parallel sampling "
        f"costs, as a fraction of each ratio's likelihood at one token per block, differs by at "
        f"most {percent(limits.ratio_price_spread)} between them."
    )
    missing = _missing(checks)
    if rows and not groups:
        missing = f"No models of ratios {ratios} that are alike in all else"
    return Reading(name=NAME, test=test, checks=tuple(checks), missing=missing)


def mixing_gains_nothing(rows: Sequence[Row], limits: Claims) -> Reading:
    """C3: a model with RoPE mixing is hardly likelier than one without."""
    pairs: dict[str, list[tuple[Row, Row]]] = {}
    for row, plain in twins(rows):
        pairs.setdefault(f"{model_and_seed(row.model)[0]}/{row.setting}", []).append((row, plain))
    checks = [_mixing(of, own, limits.mixing_nll_gain) for of, own in pairs.items()]
    test = (
        f"Models that differ in nothing but RoPE mixing, under the same schedule: mixing raises "
        f"the likelihood by at most {percent(limits.mixing_nll_gain)}."
    )
    missing = _missing(checks)
    if rows and not checks:
        missing = "No pair of models with and without mixing was run"
    return Reading(name=NAME, test=test, checks=tuple(checks), missing=missing)


def _prices(one: Repeated) -> list[Array]:
    """Return each image's price as a fraction, training by training."""
    return [nats.fraction_of_serial(nats.prices_NS.sum(1)) for nats in one.nats.values()]


def _lost(model: str, one: Repeated, limit: float) -> Check:
    """Check the price of a schedule, as a fraction."""
    quantity = "of the likelihood lost with one block per scale"
    if not one.nats:
        return _not_run(model, quantity, one.rows, limit, at_least=True)
    value, error = mean_with_error(_prices(one), _places(one.nats))
    detail = f"{_price_text(one)} of {_mean(one.nats, lambda nats: nats.serial):.1f}"
    return _check(model, quantity, value, error, limit, detail, one.rows, at_least=True)


def _gain(model: str, base: Repeated, fine: Repeated, limit: float) -> Check:
    """Check what more steps gain, as a fraction of the likelihood at one token per block."""
    steps, more = base.steps, fine.steps
    of, quantity = f"{model}, {more} steps", f"of the likelihood gained beyond {steps} steps"
    rows, first, other = (*base.rows, *fine.rows), base.nats, fine.nats
    both = sorted(first.keys() & other.keys())
    if not both:
        return _not_run(of, quantity, rows, limit, at_least=False)
    gained_RN = [first[seed].totals_N - other[seed].totals_N for seed in both]
    fractions_RN = [
        first[seed].fraction_of_serial(gained_N)
        for seed, gained_N in zip(both, gained_RN, strict=True)
    ]
    value, error = mean_with_error(fractions_RN, _places(first))
    nats, nats_error = mean_with_error(gained_RN, _places(first))
    detail = (
        f"{nats:.2f} ± {nats_error:.2f} nats: {_mean(first, lambda one: one.nll):.2f} at {steps} "
        f"steps, {_mean(other, lambda one: one.nll):.2f} at {more}{_trainings(both)}"
    )
    return _check(of, quantity, value, error, limit, detail, rows, at_least=False)


def _spread(group: Sequence[Row], steps: int, limits: Claims) -> Check:
    """Check the largest price less the smallest, as fractions, at one step count."""
    of, quantity = f"at {steps} steps", "of the likelihood between the ratios' prices"
    limit = limits.ratio_price_spread
    found = [
        one
        for own in repeated(group).values()
        for one in [at_steps(own, steps)]
        if one is not None and one.rows[0].ratio in limits.ratios
    ]
    rows, measured = [row for one in found for row in one.rows], [one for one in found if one.nats]
    if {one.rows[0].ratio for one in measured} != set(limits.ratios):
        return _not_run(of, quantity, rows, limit, at_least=False)
    ordered = sorted(map(_prices, measured), key=lambda prices_RN: float(np.mean(prices_RN)))
    low_RN, high_RN = ordered[0], ordered[-1]
    apart_N = np.mean(high_RN, axis=0) - np.mean(low_RN, axis=0)
    over_images = standard_error(apart_N, _places(measured[0].nats))
    error = math.hypot(over_images, over_trainings(low_RN), over_trainings(high_RN))
    detail = ", ".join(f"{one.model} {_price_text(one)}" for one in measured)
    value = float(apart_N.mean())
    return _check(of, quantity, value, error, limit, detail, rows, at_least=False)


def _mixing(of: str, pairs: Sequence[tuple[Row, Row]], limit: float) -> Check:
    """Check what a model gains on its twin without mixing, both of one seed."""
    quantity, rows = "of the likelihood gained by mixing", [row for pair in pairs for row in pair]
    both = [(row.nats, plain.nats) for row, plain in pairs if row.nats and plain.nats]
    if not both:
        return _not_run(of, quantity, rows, limit, at_least=False)
    gained_RN = [(plain.totals_N - mixed.totals_N) / plain.nll for mixed, plain in both]
    value, error = mean_with_error(gained_RN, both[0][0].places)
    mixed_nll, plain_nll = (
        np.mean([nats.nll for nats in side]) for side in zip(*both, strict=True)
    )
    detail = f"{mixed_nll:.2f} nats with, {plain_nll:.2f} without{_trainings(both)}"
    return _check(of, quantity, value, error, limit, detail, rows, at_least=False)


def _price_text(one: Repeated) -> str:
    """Return the price in nats, `5.21 ± 0.28 nats`, and of how many trainings it is the mean."""
    prices_RN = [nats.prices_NS.sum(1) for nats in one.nats.values()]
    price, error = mean_with_error(prices_RN, _places(one.nats))
    return f"{price:.2f} ± {error:.2f} nats{_trainings(prices_RN)}"


def _trainings(found: Sized) -> str:
    return f" (mean of {len(found)} trainings)" if len(found) > 1 else ""


def _mean(nats: Mapping[int, Nats], number: Callable[[Nats], float]) -> float:
    return float(np.mean([number(one) for one in nats.values()]))


def _places(nats: Mapping[int, Nats]) -> Places | None:
    """Return where the held-out images are from, which all trainings share."""
    return next(iter(nats.values())).places


def _check(
    of: str,
    quantity: str,
    value: float,
    error: float,
    limit: float,
    detail: str,
    rows: Sequence[Row],
    *,
    at_least: bool,
) -> Check:
    return Check(
        of=of,
        quantity=quantity,
        value=value,
        error=error,
        limit=limit,
        at_least=at_least,
        detail=detail,
        rows=tuple(row.variant for row in rows),
        stage=NAME,
    )


def _not_run(of: str, quantity: str, rows: Sequence[Row], limit: float, *, at_least: bool) -> Check:
    absent = [row.variant for row in rows if row.nats is None]
    detail = f"not run: {', '.join(absent) or 'no such setting'}"
    return Check(
        of=of, quantity=quantity, value=None, limit=limit, at_least=at_least, detail=detail
    )


def _missing(checks: Sequence[Check]) -> str:
    return "" if checks else _NOT_MEASURED
