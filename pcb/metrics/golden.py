"""`pcb verify-metrics`: ADM's published samples against ADM's published scores of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pcb.config import Sampling
from pcb.metrics.evaluate import evaluate

PUBLISHED = {
    "fid": 3.9426,
    "sfid": 6.1404,
    "is": 215.84,
    "precision": 0.8265,
    "recall": 0.5309,
}
"""What ADM's evaluator prints for the catalog's `adm-samples` against `adm-reference`."""
IMAGES = Sampling().images
TOLERANCE = 0.01
"""Relative. TensorFlow's kernels are not PyTorch's, and ADM compares distances in float16."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One score: published, by this package, and by torch-fidelity's own function if it has it."""

    name: str
    published: float
    measured: float
    torch_fidelity: float | None

    @property
    def passes(self) -> bool:
        """Whether this package's score is within the tolerance."""
        return abs(self.measured / self.published - 1) <= TOLERANCE


def verify_metrics(
    samples: Path, inception: Path, reference: Path, published: Mapping[str, float] = PUBLISHED
) -> int:
    """Measure ADM's samples, print both sides, and return 1 if a score is out of tolerance."""
    found = evaluate(
        samples,
        inception,
        reference,
        count=IMAGES,
        torch_fidelity=True,
    )
    comparisons = compare(found, published)
    print("\n".join(comparison_lines(comparisons)))
    return 0 if all(comparison.passes for comparison in comparisons) else 1


def compare(found: Mapping[str, float], published: Mapping[str, float]) -> list[Comparison]:
    """Return measured scores beside published ones."""
    return [
        Comparison(
            name=name,
            published=value,
            measured=found[name],
            torch_fidelity=found.get(f"torch_fidelity_{name}"),
        )
        for name, value in published.items()
    ]


def comparison_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the comparison as a table, and a line that sums it up."""
    lines = [f"{'score':<10} {'published':>10}  {'measured':>18}  {'torch-fidelity':>18}"]
    for one in comparisons:
        cells = [_beside(value, one.published) for value in (one.measured, one.torch_fidelity)]
        mark = "" if one.passes else "  out of tolerance"
        lines.append(f"{one.name:<10} {one.published:>10.5g}  {cells[0]:>18}  {cells[1]:>18}{mark}")
    passed = sum(one.passes for one in comparisons)
    lines.append(f"{passed} of {len(comparisons)} measured scores are within {TOLERANCE:.0%}")
    return lines


def _beside(value: float | None, published: float) -> str:
    """Return a value and its relative difference."""
    return "-" if value is None else f"{value:.5g} ({value / published - 1:+.2%})"
