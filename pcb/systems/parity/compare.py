"""A system against the values that its released code gives on the same weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.systems.parity import arpg, family, lpd, var
from pcb.systems.parity.comparison import Comparison, comparison
from pcb.systems.parity.recording import CONFIG, Recording, read_recording


@dataclass(frozen=True, kw_only=True)
class Recomputation:
    """How a system's recorded quantities are computed anew."""

    quantities: Callable[[Recording], Iterator[tuple[str, Tensor]]]
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
