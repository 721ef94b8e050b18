"""The paper's claims C4 and C5: its headline rows, and how they stand against its peers.

Both need rows of ImageNet 256x256; a miniature's leave them open.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pcb.config import Claims
from pcb.report.published import measured_row, published_systems
from pcb.report.rows import Row
from pcb.report.verdict import Check, Claim, Reading

_NEEDED = "No headline row of ImageNet 256×256 (50,000 images) was run"


def headline_holds(rows: Sequence[Row], limits: Claims, *, comparable: bool) -> Claim:
    """C4: the headline settings give the published FID and IS."""
    checks = []
    for system in _own_systems() if comparable else ():
        row = measured_row(system, rows)
        for score, name in (("fid", "FID"), ("is", "IS")):
            checks.append(_near(system, row, score, name, limits.published_spread))
    share = f"{100 * limits.published_spread:g} %"
    return Claim(
        name="C4",
        statement="17 steps suffice: FID 2.72 and 2.83 (2x), 2.79 (4x); IS 302.5, 318.2, 311.5.",
        readings=(
            Reading(
                name="FID and IS",
                test="Measured under the ADM protocol on 50,000 images, FID and IS of each "
                f"headline setting differ from the published ones by at most {share}.",
                checks=tuple(checks),
                missing="" if comparable else _NEEDED,
            ),
        ),
    )


def beats_peers(rows: Sequence[Row], limits: Claims, *, comparable: bool) -> Claim:
    """C5: fewer steps and less time than peers of like capacity, as the paper prints theirs."""
    peers = [s for s in published_systems() if s["system"] in limits.peers]
    own = [measured_row(system, rows) for system in _own_systems()] if comparable else []
    run = [row for row in own if row is not None and row.was_run]
    checks = [
        _saved(row, peer, what) for row in run for peer in peers for what in ("steps", "time")
    ]
    return Claim(
        name="C5",
        statement="Fewer steps and less time per image than PAR, RandAR and LlamaGen at like "
        "capacity.",
        readings=(
            Reading(
                name="steps and time",
                test="Every headline row saves steps, and seconds per image as measured here, "
                f"against the published figures of {', '.join(limits.peers)}. The paper states "
                "neither hardware nor batch size of its times, so the times only show an order of "
                "magnitude.",
                checks=tuple(checks),
                missing="" if run else _NEEDED,
            ),
        ),
    )


def _own_systems() -> list[Mapping[str, Any]]:
    """Return the published lines that a measured row can stand beside."""
    return [system for system in published_systems() if system.get("run")]


def _near(system: Mapping[str, Any], row: Row | None, score: str, name: str, limit: float) -> Check:
    """Check that a measured score lies near the published one."""
    of, quantity = str(system["system"]), f"{name} off the published one"
    if row is None or not row.was_run:
        return Check(
            of=of, quantity=quantity, value=None, limit=limit, at_least=False, detail="not run"
        )
    published = float(system[score])
    error = row.scores.get(f"{score}_std")
    return Check(
        of=of,
        quantity=quantity,
        value=abs(row.scores[score] / published - 1),
        limit=limit,
        at_least=False,
        detail=f"{row.scores[score]:.4g} measured, {published:g} published",
        error=None if error is None else error / published,
        rows=(row.variant,),
    )


def _saved(row: Row, peer: Mapping[str, Any], what: str) -> Check:
    """Check what share of a peer's steps or seconds a row saves."""
    theirs = float(peer["steps"] if what == "steps" else peer["time_s"])
    ours = float(row.steps) if what == "steps" else row.seconds_per_image
    of, quantity = f"{row.variant} against {peer['system']}", f"{what} saved"
    if ours is None:
        return Check(
            of=of, quantity=quantity, value=None, limit=0.0, at_least=True, detail="not timed"
        )
    unit = "steps" if what == "steps" else "s an image"
    return Check(
        of=of,
        quantity=quantity,
        value=1 - ours / theirs,
        limit=0.0,
        at_least=True,
        detail=f"{ours:.3g} against {theirs:g} {unit}",
        rows=(row.variant,),
    )
