"""The paper's claims C4 and C5: its headline rows, and how they stand against its peers.

C4 needs rows of ImageNet 256x256; a miniature's leave it open. C5 needs times of whole systems.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pcb.config import Claims
from pcb.published.systems import catalog
from pcb.report.published import measured_row, published_systems, timed_name
from pcb.report.rows import Row
from pcb.report.times import NOT_MEASURED, Times
from pcb.report.verdict import Check, Claim, Reading

_NEEDED = "No headline row of ImageNet 256×256 (50,000 images) was run"


def headline_holds(rows: Sequence[Row], limits: Claims, *, comparable: bool) -> Claim:
    """C4: the headline configs give the published FID and IS."""
    checks = []
    for system in _own_systems() if comparable else ():
        row = measured_row(system, rows)
        for score, name in (("fid", "FID"), ("is", "IS")):
            checks.append(_near(system, row, score, name, limits.published_spread))
    spread = f"{100 * limits.published_spread:g} %"
    return Claim(
        name="C4",
        statement="17 steps suffice: FID 2.72 and 2.83 (2x), 2.79 (4x); IS 302.5, 318.2, 311.5.",
        readings=(
            Reading(
                name="FID and IS",
                test="Measured under the ADM protocol on 50,000 images, FID and IS of each "
                f"headline setting differ from the published ones by at most {spread}.",
                checks=tuple(checks),
                missing="" if comparable else _NEEDED,
            ),
        ),
    )


def beats_peers(limits: Claims, times: Times) -> Claim:
    """C5: fewer model calls and less time than peers of like capacity, on one machine.

    Neither depends on weights, so that random ones decide it.
    """
    peers = [s for s in published_systems() if s["system"] in limits.peers]
    own = {timed_name(system): system for system in _own_systems()}
    pairs = [(name, system, peer) for name, system in own.items() for peer in peers]
    milliseconds = {
        name: times.milliseconds(name) for name in (*own, *(str(p["system"]) for p in peers))
    }
    checks = [
        _saved(name, peer, "steps", int(system["run"]["steps"]), _calls(peer), "model calls")
        for name, system, peer in pairs
    ]
    checks += [
        _saved(name, peer, "time", ours, theirs, "ms per image")
        for name, _, peer in pairs
        if (ours := milliseconds[name]) is not None
        and (theirs := milliseconds[str(peer["system"])]) is not None
    ]
    if untimed := [name for name, ms in milliseconds.items() if ms is None]:
        checks.append(_untimed(untimed))
    published = ", ".join(
        f"{name} {system['time_s']:g}"
        for name, system in [*own.items(), *((str(peer["system"]), peer) for peer in peers)]
    )
    where = f"on {times.machine}" if times.machine else "on one machine"
    return Claim(
        name="C5",
        statement="Fewer steps and less time per image than PAR, RandAR and LlamaGen at like "
        "capacity.",
        readings=(
            Reading(
                name="steps and time",
                test=f"Every headline model makes fewer model calls than "
                f"{', '.join(limits.peers)}, and takes less time for one image, measured {where} "
                f"by `python -m benchmarks systems` with random weights, guidance as published. "
                f"Published seconds per image: {published}. These mix set-ups (other GPUs, 384 and "
                f"256 pixels, compiled and not), so they decide nothing.",
                checks=tuple(checks),
                missing="" if peers else "No peer of Table 1 is named",
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


def _saved(
    name: str, peer: Mapping[str, Any], what: str, ours: float, theirs: float, unit: str
) -> Check:
    """Check what fraction of a peer's steps or time is saved."""
    return Check(
        of=f"{name} against {peer['system']}",
        quantity=f"{what} saved",
        value=1 - ours / theirs,
        limit=0.0,
        at_least=True,
        detail=f"{ours:.4g} against {theirs:.4g} {unit}",
    )


def _calls(peer: Mapping[str, Any]) -> int:
    """Return a system's model calls: counted where it runs here, else as published."""
    system = catalog().get(peer["system"])
    return int(peer["steps"]) if system is None else system.steps


def _untimed(names: Sequence[str]) -> Check:
    """Return the check that stays open because these systems were not timed."""
    return Check(
        of=", ".join(names),
        quantity="time saved",
        value=None,
        limit=0.0,
        at_least=True,
        detail=NOT_MEASURED,
    )
