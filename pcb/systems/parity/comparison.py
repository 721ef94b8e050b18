"""One recorded quantity beside the same computed anew, and the table of all of them.

Whole numbers and truth values (codes, orders, block sizes, masks) agree exactly, everything else
within TOLERANCE in float32 on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

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
