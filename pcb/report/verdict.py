"""What a verdict is made of: checks of one number against one limit, and the claim they decide.

One failed check refutes a claim; a check that could not be made, because rows were not run, leaves
it open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["reproduced", "not reproduced", "not decidable"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number, as a share (0.25 is 25 %), against one limit."""

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
    """The FIDs behind the number, or what was not run."""
    error: float | None = None
    """Standard error of the value, where the FIDs have one."""
    rows: tuple[str, ...] = ()
    """The settings that the number is made from: `ratio2/t17`."""

    @property
    def subject(self) -> str:
        """What was checked, in words."""
        return f"{self.of}: {self.quantity}"

    @property
    def holds(self) -> bool | None:
        """Whether the check holds; None if it could not be made."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def close(self) -> bool:
        """Whether the limit lies within two standard errors, so that chance could decide."""
        if self.value is None or self.error is None:
            return False
        return abs(self.value - self.limit) < 2 * self.error


@dataclass(frozen=True, kw_only=True)
class Span:
    """The numbers of one quantity, from the smallest to the largest."""

    quantity: str
    low: float
    high: float
    limit: float
    at_least: bool


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper, the test that decides it, and the checks made."""

    name: str
    statement: str
    test: str
    checks: tuple[Check, ...]
    missing: str = ""
    """What was not run, if no check could even be named."""

    @property
    def verdict(self) -> Verdict:
        """The claim's verdict: one failed check refutes, a missing one leaves it open."""
        outcomes = [check.holds for check in self.checks]
        if False in outcomes:
            return "not reproduced"
        if None in outcomes or self.missing or not outcomes:
            return "not decidable"
        return "reproduced"

    @property
    def spans(self) -> list[Span]:
        """The numbers in short, quantity by quantity."""
        found: dict[str, list[float]] = {}
        for check in self.checks:
            if check.value is not None:
                found.setdefault(check.quantity, []).append(check.value)
        kinds = {check.quantity: check for check in self.checks}
        return [
            Span(
                quantity=quantity,
                low=min(values),
                high=max(values),
                limit=kinds[quantity].limit,
                at_least=kinds[quantity].at_least,
            )
            for quantity, values in found.items()
        ]

    @property
    def reason(self) -> str:
        """One sentence that says why the verdict is what it is."""
        failed = [check.subject for check in self.checks if check.holds is False]
        absent = [f"{check.subject} ({check.detail})" for check in self.checks if not _made(check)]
        made = len(self.checks) - len(absent)
        if failed:
            return f"{len(failed)} of {made} checks made fail: {'; '.join(failed)}."
        if absent or self.missing:
            return "; ".join(filter(None, [self.missing, *absent])) + "."
        close = sum(check.close for check in self.checks)
        note = f"; {close} within two standard errors of the limit" if close else ""
        return ("The check holds" if made == 1 else f"All {made} checks hold") + note + "."


def claims_json(claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """Return the claims as plain data for `claims.json`."""
    return [
        {
            "claim": claim.name,
            "statement": claim.statement,
            "test": claim.test,
            "verdict": claim.verdict,
            "reason": claim.reason,
            "checks": [
                {
                    "subject": check.subject,
                    "value": check.value,
                    "standard_error": check.error,
                    "limit": check.limit,
                    "must_be": "at least" if check.at_least else "at most",
                    "holds": check.holds,
                    "close_to_limit": check.close,
                    "detail": check.detail,
                    "rows": list(check.rows),
                }
                for check in claim.checks
            ],
        }
        for claim in claims
    ]


def _made(check: Check) -> bool:
    return check.holds is not None
