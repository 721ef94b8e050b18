"""A system against the values that its released code gives on the same weights.

Codes, orders, block sizes and masks agree exactly, everything else within TOLERANCE in float32 on
the CPU.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.systems import arpg_parity, family_parity, lpd_parity, var_parity
from pcb.systems.recording import CONFIG, Recording, read_recording

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


@dataclass(frozen=True, kw_only=True)
class Recomputation:
    """How a system's recorded quantities are computed anew."""

    quantities: Callable[[Recording], Iterator[tuple[str, Tensor]]]
    """Loads the folder's model, and yields name and value; nothing where nothing is recorded.

    What it yields beyond what is recorded is passed over.
    """
    is_input: Callable[[str], bool]
    """Whether a recorded array, by its name, is given to the model."""


_FAMILY = Recomputation(quantities=family_parity.quantities, is_input=family_parity.is_input)
SYSTEMS = {
    "LlamaGen": _FAMILY,
    "PAR": _FAMILY,
    "RandAR": _FAMILY,
    "NAR": _FAMILY,
    "ARPG": Recomputation(quantities=arpg_parity.quantities, is_input=arpg_parity.is_input),
    "LPD": Recomputation(quantities=lpd_parity.quantities, is_input=lpd_parity.is_input),
    "VAR": Recomputation(quantities=var_parity.quantities, is_input=var_parity.is_input),
}
"""By the name under `peer`."""


@torch.inference_mode()
def compare(folder: Path) -> list[Comparison]:
    """Load a folder, strictly, and compare every quantity that its expected.npz records.

    Raises UserError naming the file for a system that is not known, and for weights that do not
    fit what config.json describes.
    """
    recording = read_recording(folder)
    if recording.system not in SYSTEMS:
        known = ", ".join(SYSTEMS)
        raise UserError(f"{folder / CONFIG}: peer {recording.system!r} is none of {known}")
    system = SYSTEMS[recording.system]
    rows = [
        _comparison(name, value, recording[name])
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


def _comparison(name: str, value: Tensor, expected: Tensor) -> Comparison:
    exact = not expected.is_floating_point()
    same = value.shape == expected.shape
    error = (value.double() - expected.double()).abs().max() if same else torch.inf
    return Comparison(quantity=name, error=float(error), tolerance=0 if exact else TOLERANCE)
