"""The parts of a verdict: checks of one number against one limit, readings, and claims.

A check holds, fails, or is undecided: because the limit lies within two standard errors of the
number, or because what it needs was not run. A reading is all checks by one kind of measurement;
one that fails makes it fail. A claim may be read in several ways, as by likelihood and by FID.
"""

from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number, as a fraction (0.25 is 25 %), against one limit."""

    of: str
    """What was looked at: a model, a step count."""
    quantity: str
    """What the number is; checks of one quantity have one limit."""
    value: float | None
    """None: the rows that it needs were not run."""
    limit: float
    at_least: bool
    """The value must reach the limit; else it must not exceed it."""
    detail: str
    """The measurements behind the number, or what was not run."""
    error: float | None = None
    """Standard error of the value, where there is one."""
    rows: tuple[str, ...] = ()
    """The settings that the number is made from: `ratio2/t17`."""
    stage: str = "metrics"
    """The stage whose results they are."""

    @property
    def subject(self) -> str:
        """What was checked, in words."""
        return f"{self.of}: {self.quantity}"

    @property
    def close(self) -> bool:
        """Whether the limit lies within two standard errors, so that chance could decide."""
        if self.value is None or self.error is None:
            return False
        return abs(self.value - self.limit) < 2 * self.error

    @property
    def blind(self) -> bool:
        """Whether no value could hold: twice the error exceeds all that is allowed."""
        return self.close and not self.at_least and 2 * (self.error or 0) >= self.limit

    @property
    def outcome(self) -> Verdict:
        """Whether the check holds or fails; undecided if it is close or could not be made."""
        if self.value is None or self.close:
            return "undecided"
        reached = self.value >= self.limit
        return "holds" if reached == self.at_least or self.value == self.limit else "fails"


@dataclass(frozen=True, kw_only=True)
class Span:
    """The numbers of one quantity, from the smallest to the largest."""

    quantity: str
    low: float
    high: float
    limit: float
    at_least: bool
    error: float | None
    """The largest standard error of them; None if none is known."""

    @property
    def range(self) -> str:
        """Both ends in percent, `5 % to 44.2 %`, or one where they are printed alike."""
        return " to ".join(dict.fromkeys([percent(self.low), percent(self.high)]))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One way to decide a claim: by which measurement, the test, and the checks made."""

    name: str
    """`likelihood`, `FID`, or whatever else was measured."""
    test: str
    checks: tuple[Check, ...]
    missing: str = ""
    """What was not run, if no check could even be named."""

    @property
    def verdict(self) -> Verdict:
        """One failed check makes it fail, an undecided one leaves it open."""
        outcomes = [check.outcome for check in self.checks]
        if "fails" in outcomes:
            return "fails"
        if "undecided" in outcomes or self.missing or not outcomes:
            return "undecided"
        return "holds"

    @property
    def spans(self) -> list[Span]:
        """The numbers in short, quantity by quantity."""
        found: dict[str, list[Check]] = {}
        for check in self.checks:
            if check.value is not None:
                found.setdefault(check.quantity, []).append(check)
        return [
            Span(
                quantity=quantity,
                low=min(check.value for check in own if check.value is not None),
                high=max(check.value for check in own if check.value is not None),
                limit=own[0].limit,
                at_least=own[0].at_least,
                error=max((check.error for check in own if check.error is not None), default=None),
            )
            for quantity, own in found.items()
        ]

    @property
    def reason(self) -> str:
        """One sentence that says why the verdict is what it is."""
        failed = [check.subject for check in self.checks if check.outcome == "fails"]
        absent = [f"{c.subject} ({c.detail})" for c in self.checks if c.value is None]
        close = [check for check in self.checks if check.close]
        blind = sum(check.blind for check in close)
        made = len(self.checks) - len(absent)
        if failed:
            fail = verb_of(failed, "fail")
            return f"{len(failed)} of {made} checks made {fail}: {'; '.join(failed)}."
        if absent or self.missing:
            return "; ".join(filter(None, [self.missing, *absent])) + "."
        if close:
            at_this_size = (
                f" {blind} cannot hold at this size: twice the error exceeds the limit."
                if blind
                else ""
            )
            return (
                f"{len(close)} of {made} {verb_of(close, 'lie')} within two standard errors of the "
                "limit, so that chance could decide: "
                f"{'; '.join(check.subject for check in close)}.{at_this_size}"
            )
        return "The check holds." if made == 1 else f"All {made} checks hold."


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper and the ways in which it was read."""

    name: str
    statement: str
    readings: tuple[Reading, ...]

    @property
    def verdict(self) -> Verdict:
        """What the readings that decide something agree on; undecided if none does, or they differ.

        Each reading's own verdict stands beside it wherever this one is shown.
        """
        decided = {reading.verdict for reading in self.readings} - {"undecided"}
        return decided.pop() if len(decided) == 1 else "undecided"

    @property
    def reason(self) -> str:
        """Why, reading by reading."""
        if len(self.readings) == 1:
            return self.readings[0].reason
        decided = {reading.verdict for reading in self.readings} - {"undecided"}
        differ = "The readings differ. " if len(decided) > 1 else ""
        return differ + " ".join(
            f"By {r.name} it {says(r.verdict)}: {r.reason}" for r in self.readings
        )


def verb_of(of: Sized, verb: str) -> str:
    """Return a verb of the third person, after so many."""
    return f"{verb}s" if len(of) == 1 else verb


def says(verdict: Verdict) -> str:
    """Return a verdict as the end of "by FID it ..."."""
    return "is undecided" if verdict == "undecided" else verdict


def claims_json(claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """Return the claims as plain data for `claims.json`."""
    return [
        {
            "claim": claim.name,
            "statement": claim.statement,
            "verdict": claim.verdict,
            "reason": claim.reason,
            "readings": [_reading(reading) for reading in claim.readings],
        }
        for claim in claims
    ]


def _reading(reading: Reading) -> dict[str, Any]:
    return {
        "by": reading.name,
        "test": reading.test,
        "verdict": reading.verdict,
        "reason": reading.reason,
        "numbers": _numbers(reading.spans),
        "checks": [
            {
                "subject": check.subject,
                "value": check.value,
                "standard_error": check.error,
                "limit": check.limit,
                "must_be": "at least" if check.at_least else "at most",
                "outcome": check.outcome,
                "close_to_limit": check.close,
                "detail": check.detail,
                "rows": [f"{check.stage}/{row}" for row in check.rows],
            }
            for check in reading.checks
        ],
    }


def _numbers(spans: Sequence[Span]) -> list[str]:
    """Return the numbers in words: `5 % to 44.2 % of the likelihood lost ... (limit: ...)`."""
    return [
        f"{span.range} {span.quantity} "
        f"(limit: {'at least' if span.at_least else 'at most'} {percent(span.limit)}"
        f"{_error_text(span)})"
        for span in spans
    ]


def _error_text(span: Span) -> str:
    if span.error is None:
        return ""
    upto = "" if span.low == span.high else "up to "
    return f"; standard error {upto}{percent(span.error)}"


def percent(fraction: float) -> str:
    """Return a fraction as percent, 0.2534 as `25.3 %`, with a space that does not break."""
    # Adding nothing takes the sign from what rounds to nothing.
    return f"{round(100 * fraction, 1) + 0.0:.10g}\N{NO-BREAK SPACE}%"
