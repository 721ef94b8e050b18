"""Times of whole systems at full size, as `python -m benchmarks systems --record` has stored them.

Weights are random there, which no time depends on. Numbers of one machine are compared with each
other alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcb.runtime.stored import read_stored

TIMES = Path("benchmarks") / "systems.json"
"""``{machine: {system: {part: {"ms": of a call, "images": of a call, ...}}}}``, in git; parts are
`b1`, `b1-decoded`, `b64`: images of a call, decoded or not."""
NOT_MEASURED = "not measured"
OWN = {2: "Checkerboard-L-2x", 4: "Checkerboard-L-4x"}
"""The paper's own models of size L by ratio, as benchmarks call them."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """What was measured on one machine; empty where nothing was."""

    machine: str = ""
    systems: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def milliseconds(self, system: str) -> float | None:
        """Return the milliseconds of one image alone, decoding not included; None if not timed."""
        part = self.systems.get(system, {}).get("b1")
        return None if part is None else float(part["ms"])

    def per_second(self, system: str) -> float | None:
        """Return images per second at the best batch, decoding not included; None if not timed."""
        rates = [
            1000 * part["images"] / part["ms"]
            for name, part in self.systems.get(system, {}).items()
            if not name.endswith("-decoded")
        ]
        return max(rates, default=None)


NONE = Times()


def read_times(path: Path = TIMES) -> Times:
    """Return the times of the machine that has most systems; none where none are stored.

    Raises UserError as `read_stored`.
    """
    stored = read_stored(path)
    timed = {name: sum("b1" in parts for parts in found.values()) for name, found in stored.items()}
    if not any(timed.values()):
        return NONE
    machine = max(timed, key=lambda name: timed[name])
    return Times(machine=machine, systems=stored[machine])
