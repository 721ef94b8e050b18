"""Recorded folders of the systems against the same computed anew, and the table of both.

Whole numbers and truth values (codes, orders, block sizes, masks) agree exactly, everything else
within TOLERANCE in float32 on the CPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.systems.parity import arpg, family, lpd, var
from pcb.systems.parity.greedy import Quantities
from pcb.systems.parity.recording import CONFIG, Recording, read_recording

TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One quantity: its largest absolute error, and the largest that passes.

    The error is infinite where shapes differ, and for what was recorded and cannot be computed.
    """

    quantity: str
    error: float
    tolerance: float

    @property
    def passes(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


def comparison(quantity: str, value: Tensor, expected: Tensor) -> Comparison:
    """Compare what was computed with what was recorded."""
    error = torch.inf
    if value.shape == expected.shape:
        errors = (value.double() - expected.double()).abs()
        # Of no elements none is wrong.
        error = float(errors.max()) if errors.numel() else 0.0
    whole = not (value.is_floating_point() and expected.is_floating_point())
    tolerance = 0.0 if whole else TOLERANCE
    return Comparison(quantity=quantity, error=error, tolerance=tolerance)


@dataclass(frozen=True, kw_only=True)
class Recomputation:
    """How a system's recorded quantities are computed anew."""

    quantities: Callable[[Recording], Quantities]
    """Loads the folder's model, and yields name and value; nothing where nothing is recorded.

    What it yields beyond what is recorded is passed over.
    """
    is_input: Callable[[str], bool]
    """Whether a recorded array, by its name, is given to the model."""


_FAMILY = Recomputation(quantities=family.quantities, is_input=family.is_input)
SYSTEMS = {
    "LlamaGen": _FAMILY,
    "PAR": _FAMILY,
    "RandAR": _FAMILY,
    "NAR": _FAMILY,
    "ARPG": Recomputation(quantities=arpg.quantities, is_input=arpg.is_input),
    "LPD": Recomputation(quantities=lpd.quantities, is_input=lpd.is_input),
    "VAR": Recomputation(quantities=var.quantities, is_input=var.is_input),
}
"""By the name under `peer`."""


@torch.inference_mode()
def compare(folder: Path) -> list[Comparison]:
    """Load a folder, strictly, and compare every quantity that its expected.npz records.

    Raises UserError naming the file for a system that is not known, and for weights that do not
    fit what config.json describes, and expected.npz for inputs that the model cannot take.
    """
    recording = read_recording(folder)
    if recording.system not in SYSTEMS:
        known = ", ".join(SYSTEMS)
        raise UserError(f"{folder / CONFIG}: peer {recording.system!r} is none of {known}")
    system = SYSTEMS[recording.system]
    rows = [
        comparison(name, value, recording[name])
        for name, value in system.quantities(recording)
        if name in recording
    ]
    left = recording.expected.keys() - {row.quantity for row in rows}
    unknown = [
        Comparison(quantity=name, error=float("inf"), tolerance=0)
        for name in sorted(left)
        if not system.is_input(name)
    ]
    return rows + unknown


def print_table(folder: Path, comparisons: Sequence[Comparison]) -> int:
    """Print the table of a folder; return 1 if a quantity is out of tolerance, else 0."""
    if not comparisons:
        print(f"{folder}: loaded; there is no expected.npz to compare with")
        return 0
    width = max(28, *(len(row.quantity) + 2 for row in comparisons))
    print(f"{'quantity':<{width}}{'largest error':>15}{'tolerance':>12}")
    for row in comparisons:
        verdict = "" if row.passes else "  OUT"
        print(f"{row.quantity:<{width}}{row.error:>15.3g}{row.tolerance:>12.3g}{verdict}")
    failed = sum(not row.passes for row in comparisons)
    print(f"{len(comparisons) - failed} of {len(comparisons)} quantities agree")
    return 1 if failed else 0
