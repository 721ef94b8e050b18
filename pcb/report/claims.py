"""The paper's claims, each decided by stated thresholds from measured rows: C1a to C3 stand here.

Each of these is read by the likelihood of held-out images (`pcb.report.likelihood_claims`) and by
FID, whose readings stand here.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from pcb.config import Claims
from pcb.config.seeds import model_and_seed
from pcb.order.names import CHECKERBOARD
from pcb.report.groups import at_steps, by_model, complete_groups, twins
from pcb.report.headline import beats_peers, headline_holds
from pcb.report.likelihood_claims import (
    few_steps_cost,
    mixing_gains_nothing,
    more_steps_gain_nothing,
    ratios_pay_alike,
)
from pcb.report.rows import Row
from pcb.report.seeds import means_over_seeds
from pcb.report.times import NONE, Times
from pcb.report.verdict import Check, Claim, Reading, percent

FID = "FID"


def decide(
    rows: Sequence[Row],
    limits: Claims,
    *,
    schedules: Sequence[Row] = (),
    comparable: bool = False,
    times: Times = NONE,
) -> tuple[Claim, ...]:
    """Return the claims C1a to C5 with their verdicts.

    rows: what was sampled. schedules: of what the likelihood was measured. Of a model with several
    training seeds, means over these decide. Models of other orders than the paper's decide nothing:
    they have a study of their own (`pcb.report.order_study`).
    `comparable` says that they are of the paper's data, so that published numbers can decide;
    `times` are those of whole systems on one machine.
    """
    rows, schedules = (
        [row for row in given if row.order == CHECKERBOARD] for given in (rows, schedules)
    )
    single, rows = rows, means_over_seeds(rows)
    seeded = any(model_and_seed(row.model)[1] for row in single)
    chance = 0.0 if seeded else limits.fid_training_spread
    return (
        Claim(
            name="C1a",
            statement="Few parallel steps hurt: quality rises with total steps.",
            readings=(few_steps_cost(schedules, limits), few_steps_hurt(rows, limits)),
        ),
        Claim(
            name="C1b",
            statement="Quality flattens near 17 total steps.",
            readings=(more_steps_gain_nothing(schedules, limits), curve_flattens(rows, limits)),
        ),
        Claim(
            name="C2",
            statement="At equal total steps, ratios 2, 3 and 4 are equally good.",
            readings=(ratios_pay_alike(schedules, limits), ratios_agree(rows, limits, chance)),
        ),
        Claim(
            name="C3",
            statement="RoPE mixing gives no clear gain.",
            readings=(
                mixing_gains_nothing(schedules, limits),
                mixing_is_idle(rows, limits, chance),
            ),
        ),
        headline_holds(single, limits, comparable=comparable),
        beats_peers(limits, times),
    )


def few_steps_hurt(rows: Sequence[Row], limits: Claims) -> Reading:
    """C1a: FID falls as total steps grow."""
    steps = limits.compare_steps
    rise = f"rise of FID from {steps} steps to one block per scale"
    checks = [
        _excess(model, rise, coarse, at_steps(own, steps), limits.few_steps_gain, at_least=True)
        for model, own in by_model(rows).items()
        for coarse in [row for row in own if row.one_block]
    ]
    test = (
        f"For every model in checkerboard order, without guidance: FID with one block per scale is "
        f"at least {percent(limits.few_steps_gain)} above FID at {steps} steps."
    )
    missing = "" if checks else "No model was sampled with one block per scale"
    return Reading(name=FID, test=test, checks=tuple(checks), missing=missing)


def curve_flattens(rows: Sequence[Row], limits: Claims) -> Reading:
    """C1b: beyond the compared steps FID hardly changes."""
    steps = limits.compare_steps
    change = f"change of FID beyond {steps} steps"
    checks = [
        _change(f"{model}, {fine.steps} steps", change, fine, base, limits.flat_beyond)
        for model, own in by_model(rows).items()
        for base in [at_steps(own, steps)]
        for fine in own
        if base is not None and fine.steps > steps
    ]
    test = (
        f"For every model in checkerboard order, without guidance: at more than {steps} steps FID "
        f"differs from that at {steps} by at most {percent(limits.flat_beyond)}."
    )
    missing = "" if checks else f"No model was sampled with {steps} steps and with more"
    return Reading(name=FID, test=test, checks=tuple(checks), missing=missing)


def ratios_agree(rows: Sequence[Row], limits: Claims, chance: float = 0.0) -> Reading:
    """C2: at equal total steps the ratios give similar FID.

    chance: fraction by which another training of a model would change its FID, where `rows` do not
    show it.
    """
    wanted = {float(ratio) for ratio in limits.ratios}
    names = ", ".join(f"{ratio:g}" for ratio in limits.ratios)
    checks = []
    complete = complete_groups(rows, wanted)
    for group in complete:
        for steps in limits.equal_steps:
            found = [
                row
                for own in by_model(group).values()
                for row in [at_steps(own, steps)]
                if row is not None and row.ratio in wanted
            ]
            checks.append(_spread(found, wanted, steps, limits.ratio_spread, chance))
    test = (
        f"Ratios {names}, models alike in all else, without guidance, at "
        f"{' and at '.join(map(str, limits.equal_steps))} total steps: the largest FID is at most "
        f"{percent(limits.ratio_spread)} above the smallest."
    )
    missing = "" if complete else f"No models of ratios {names} that are alike in all else"
    return Reading(name=FID, test=test, checks=tuple(checks), missing=missing)


def mixing_is_idle(rows: Sequence[Row], limits: Claims, chance: float = 0.0) -> Reading:
    """C3: mixing rotary phases gives no clear gain. `chance` as of `ratios_agree`."""
    change = "change of FID against no mixing"
    checks = [
        _change(row.variant, change, row, plain, limits.mixing_gain, chance)
        for row, plain in twins(rows)
    ]
    test = (
        f"Models that differ in nothing but RoPE mixing, at the same setting: mixing changes FID "
        f"by at most {percent(limits.mixing_gain)}."
    )
    missing = "" if checks else "No pair of models with and without mixing was run"
    return Reading(name=FID, test=test, checks=tuple(checks), missing=missing)


def _excess(
    of: str,
    quantity: str,
    row: Row | None,
    base: Row | None,
    limit: float,
    chance: float = 0.0,
    *,
    at_least: bool,
) -> Check:
    """Check FID(row) / FID(base) - 1. chance: of two trainings, what another would change."""
    if row is None or base is None or not (row.was_run and base.was_run):
        absent = [
            r.variant if r else "no such setting" for r in (row, base) if not (r and r.was_run)
        ]
        detail = "not run: " + ", ".join(absent)
        return Check(
            of=of, quantity=quantity, value=None, limit=limit, at_least=at_least, detail=detail
        )
    return Check(
        of=of,
        quantity=quantity,
        value=row.scores["fid"] / base.scores["fid"] - 1,
        limit=limit,
        at_least=at_least,
        detail=f"{_fid(row)} against {_fid(base)}",
        error=_ratio_error(row, base, chance),
        rows=(row.variant, base.variant),
    )


def _change(
    of: str, quantity: str, row: Row | None, base: Row | None, limit: float, chance: float = 0.0
) -> Check:
    """Check the size of FID(row) / FID(base) - 1, whichever way it goes."""
    check = _excess(of, quantity, row, base, limit, chance, at_least=False)
    return check if check.value is None else replace(check, value=abs(check.value))


def _spread(
    found: Sequence[Row], wanted: set[float], steps: int, limit: float, chance: float
) -> Check:
    """Check largest FID / smallest FID - 1 at one step count."""
    of, quantity = f"at {steps} steps", "largest FID above the smallest"
    run = [row for row in found if row.was_run]
    absent = [f"{ratio:g}" for ratio in sorted(wanted - {row.ratio for row in run if row.ratio})]
    waiting = [row.variant for row in found if not row.was_run]
    if absent or waiting:
        detail = f"not run: {', '.join(waiting) or 'ratio ' + ', '.join(absent)}"
        return Check(
            of=of, quantity=quantity, value=None, limit=limit, at_least=False, detail=detail
        )
    low = min(run, key=lambda row: row.scores["fid"])
    high = max(run, key=lambda row: row.scores["fid"])
    return Check(
        of=of,
        quantity=quantity,
        value=high.scores["fid"] / low.scores["fid"] - 1,
        limit=limit,
        at_least=False,
        detail=", ".join(f"{row.model} {_fid(row)}" for row in run),
        error=_ratio_error(high, low, chance),
        rows=tuple(row.variant for row in run),
    )


def _ratio_error(a: Row, b: Row, chance: float) -> float | None:
    """Return the standard error of FID(a) / FID(b), if both are known.

    Errors are taken as independent; settings share their random numbers, so it is rather too large.
    `chance` is a fraction of each FID.
    """
    if "fid_std" not in a.scores or "fid_std" not in b.scores:
        return None
    relative = math.hypot(
        chance, chance, *(row.scores["fid_std"] / row.scores["fid"] for row in (a, b))
    )
    return relative * a.scores["fid"] / b.scores["fid"]


def _fid(row: Row) -> str:
    std = row.scores.get("fid_std")
    spread = f" ± {std:.3g}" if std is not None else ""
    return f"{row.scores['fid']:.4g}{spread} at {row.steps} steps"
