"""How fast a device does each kind of work: as measured, or as its datasheet lets expect. No torch.

`python -m benchmarks --record` writes `RATES`; what is not measured there is a fraction of a
datasheet's peak.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pcb.errors import UserError

RATES = Path("benchmarks") / "rates.json"
"""``{device: {kind: {precision: {"flops_per_second": number, "measured": what was run}}}}``, where
precision is one of `HALF`; in git."""
HALF = {True: "16 bits", False: "float32"}
"""What a rate is stored under: those of bfloat16 and float16 are one."""
Kind = Literal["training", "sampling", "encoding", "decoding", "features"]
PEAKS = {
    "A100": (312e12, 19.5e12),
    "H100": (989e12, 67e12),
    "H200": (989e12, 67e12),
    "L40S": (362e12, 91.6e12),
}
"""Operations a second of dense bfloat16 and of float32 without TF32, by the vendor's datasheets."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Operations a second of one kind of work, and where the number comes from."""

    flops_per_second: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device by name, such as `H100`, and the share of its peak that is taken for granted."""

    name: str
    utilisation: float
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Rates by kind and precision, as in the file of stored rates."""

    def rate(self, kind: Kind, *, half: bool) -> Rate:
        """Return the rate of a kind of work; `half` where it runs in bfloat16 or float16.

        Raises UserError for a device that was neither measured nor has a datasheet here.
        """
        measured = self.measured.get(kind, {}).get(HALF[half])
        if measured is not None:
            return Rate(flops_per_second=measured["flops_per_second"], source=measured["measured"])
        if self.name not in PEAKS:
            raise UserError(
                f"--gpu {self.name}: {kind} was not measured on it "
                f"(`python -m benchmarks --record`), and its datasheet is not known; known are "
                f"{', '.join(PEAKS)}"
            )
        peak = PEAKS[self.name][0 if half else 1]
        what = f"{100 * self.utilisation:g} % of {peak / 1e12:g} TFLOP/s by the datasheet"
        return Rate(flops_per_second=self.utilisation * peak, source=what)


def load_device(name: str, utilisation: float) -> Device:
    """Return a device with the rates that are stored for it. Raises UserError as `read_stored`."""
    return Device(name=name, utilisation=utilisation, measured=read_stored(RATES).get(name, {}))


def read_stored(path: Path) -> dict[str, dict[str, Any]]:
    """Return what `python -m benchmarks --record` has left in a file, nothing if nothing was.

    Raises UserError if it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); restore it with `git checkout`") from None
    assert isinstance(found, dict)
    return found
