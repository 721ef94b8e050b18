"""Claims C1 to C3 by the likelihood of held-out images: what sampling in parallel costs.

Numbers are shares of the negative log-likelihood (NLL) at one token per block; errors are over
paired images. What another seed of training would change is not in them: limits leave room for it.
"""

from collections.abc import Sequence

from pcb.config import Claims
from pcb.report.groups import at_steps, by_model, complete_groups, twins
from pcb.report.likelihood import Array, Nats, standard_error
from pcb.report.rows import Row
from pcb.report.verdict import Check, Reading, percent

NAME = "likelihood"
_NOT_MEASURED = "The likelihood of held-out images was not measured"


def few_steps_cost(rows: Sequence[Row], limits: Claims) -> Reading:
    """C1: one block per scale loses likelihood; more than the compared steps gain next to none."""
    steps, checks = limits.compare_steps, []
    swept = {model: own for model, own in by_model(rows).items() if any(r.one_block for r in own)}
    for model, own in swept.items():
        coarse = next(row for row in own if row.one_block)
        lost = "of the likelihood lost with one block per scale"
        checks.append(_lost(model, lost, coarse, limits.few_steps_price))
        base = at_steps(own, steps)
        for fine in [row for row in own if row.steps > steps]:
            checks.append(_gain(model, base, fine, steps, limits.flat_price))
    test = (
        f"For every model in checkerboard order: one block per scale loses at least "
        f"{percent(limits.few_steps_price)} of the likelihood that one token per block has, and "
        f"more than {steps} steps, one token per block included, gain at most "
        f"{percent(limits.flat_price)} on {steps} steps."
    )
    return Reading(name=NAME, test=test, checks=tuple(checks), missing=_missing(checks))


def ratios_pay_alike(rows: Sequence[Row], limits: Claims) -> Reading:
    """C2: at equal steps the ratios lose nearly the same."""
    checks = [
        _spread(group, steps, limits)
        for group in complete_groups(rows, limits.ratios)
        for steps in limits.equal_steps
    ]
    ratios = ", ".join(f"{ratio:g}" for ratio in limits.ratios)
    test = (
        f"Ratios {ratios}, models alike in all else, at "
        f"{' and at '.join(map(str, limits.equal_steps))} total steps: what sampling in parallel "
        f"costs, as a share of each ratio's likelihood at one token per block, differs by at most "
        f"{percent(limits.ratio_price_spread)} between them."
    )
    return Reading(name=NAME, test=test, checks=tuple(checks), missing=_missing(checks))


def mixing_gains_nothing(rows: Sequence[Row], limits: Claims) -> Reading:
    """C3: a model with RoPE mixing is hardly likelier than one without."""
    checks = [_mixing(row, plain, limits.mixing_nll_gain) for row, plain in twins(rows)]
    test = (
        f"Models that differ in nothing but RoPE mixing, under the same schedule: mixing raises "
        f"the likelihood by at most {percent(limits.mixing_nll_gain)}."
    )
    return Reading(name=NAME, test=test, checks=tuple(checks), missing=_missing(checks))


def _price(nats: Nats) -> Array:
    """Return each image's price as a share."""
    return nats.share_of_serial(nats.prices_NS.sum(1))


def _lost(of: str, quantity: str, row: Row, limit: float) -> Check:
    """Check the price of a row's schedule, as a share."""
    nats = row.nats
    if nats is None:
        return _not_run(of, quantity, [row], limit, at_least=True)
    detail = f"{nats.price:.2f} ± {nats.price_se:.2f} nats of {nats.serial:.1f}"
    return _check(of, quantity, _price(nats), limit, detail, [row], at_least=True)


def _gain(model: str, base: Row | None, fine: Row, steps: int, limit: float) -> Check:
    """Check what more steps gain, as a share of the likelihood at one token per block."""
    of, quantity = f"{model}, {fine.steps} steps", f"of the likelihood gained beyond {steps} steps"
    pair = [row for row in (base, fine) if row is not None]
    if base is None or base.nats is None or fine.nats is None:
        return _not_run(of, quantity, pair, limit, at_least=False)
    gained_N = base.nats.totals_N - fine.nats.totals_N
    shares_N = base.nats.share_of_serial(gained_N)
    detail = (
        f"{gained_N.mean():.2f} ± {standard_error(gained_N):.2f} nats: "
        f"{base.nats.nll:.2f} at {steps} steps, {fine.nats.nll:.2f} at {fine.steps}"
    )
    return _check(of, quantity, shares_N, limit, detail, pair, at_least=False)


def _spread(group: Sequence[Row], steps: int, limits: Claims) -> Check:
    """Check the largest price less the smallest, as shares, at one step count."""
    of, quantity = f"at {steps} steps", "of the likelihood between the ratios' prices"
    limit = limits.ratio_price_spread
    found = [
        row
        for own in by_model(group).values()
        for row in [at_steps(own, steps)]
        if row is not None and row.ratio in limits.ratios
    ]
    here = [(row, row.nats) for row in found if row.nats is not None]
    if {row.ratio for row, _ in here} != set(limits.ratios):
        return _not_run(of, quantity, found, limit, at_least=False)
    ordered = sorted((_price(nats) for _, nats in here), key=lambda shares_N: shares_N.mean())
    apart_N = ordered[-1] - ordered[0]
    detail = ", ".join(f"{r.model} {n.price:.2f} ± {n.price_se:.2f} nats" for r, n in here)
    return _check(of, quantity, apart_N, limit, detail, [r for r, _ in here], at_least=False)


def _mixing(row: Row, plain: Row, limit: float) -> Check:
    """Check what a model gains on its twin without mixing."""
    quantity = "of the likelihood gained by mixing"
    if row.nats is None or plain.nats is None:
        return _not_run(row.variant, quantity, [row, plain], limit, at_least=False)
    gained_N = plain.nats.totals_N - row.nats.totals_N
    shares_N = gained_N / plain.nats.nll
    detail = f"{row.nats.nll:.2f} nats with, {plain.nats.nll:.2f} without"
    return _check(row.variant, quantity, shares_N, limit, detail, [row, plain], at_least=False)


def _check(
    of: str,
    quantity: str,
    shares_N: Array,
    limit: float,
    detail: str,
    rows: Sequence[Row],
    *,
    at_least: bool,
) -> Check:
    """Check the mean of a share of each image, with the error that images give it."""
    return Check(
        of=of,
        quantity=quantity,
        value=float(shares_N.mean()),
        error=standard_error(shares_N),
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
