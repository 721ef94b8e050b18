"""Groups of rows that are compared: of a model, alike in all but one thing, at equal steps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pcb.report.rows import Row


def at_steps(rows: Iterable[Row], steps: int) -> Row | None:
    """Return the first row with this number of steps."""
    return next((row for row in rows if row.steps == steps), None)


def by_model(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the unguided rows of each model."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if not row.guided:
            found.setdefault(row.model, []).append(row)
    return found


def complete_groups(rows: Iterable[Row], ratios: Iterable[float]) -> list[list[Row]]:
    """Return rows of models that are alike but for the ratio, where all these ratios are there."""
    groups = _groups(rows, lambda row: (row.architecture, row.mixing_layers))
    return [group for group in groups if set(ratios) <= {row.ratio for row in group}]


def twins(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield a row with RoPE mixing and the same without, where both are there."""
    for group in _groups(rows, lambda row: (row.architecture, row.ratio, row.setting)):
        plain = next((row for row in group if row.mixing_layers == 0), None)
        for row in group:
            if plain is not None and row.mixing_layers > 0:
                yield row, plain


def _groups(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[list[Row]]:
    """Return rows with equal keys together, in order of first appearance."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.values())
