"""Groups of rows that are compared: of a model, alike in all but one thing, at equal steps.

A model that was trained with several seeds is one model here, of several trainings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pcb.config.seeds import model_and_seed
from pcb.order.schedule import Schedule
from pcb.report.likelihood import Nats
from pcb.report.rows import Row


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Rows of one model under one schedule, without guidance: one for each training seed."""

    model: str
    """Its name without a seed."""
    rows: tuple[Row, ...]

    @property
    def schedule(self) -> Schedule:
        """The schedule of all of them."""
        return self.rows[0].schedule

    @property
    def steps(self) -> int:
        """Its total number of steps."""
        return self.schedule.steps

    @cached_property
    def nats(self) -> dict[int, Nats]:
        """Seed -> likelihood of that training, where it was measured."""
        return {model_and_seed(row.model)[1]: row.nats for row in self.rows if row.nats is not None}


def repeated(rows: Iterable[Row]) -> dict[str, list[Repeated]]:
    """Return the unguided rows of each model, schedule by schedule as they are first listed."""
    found: dict[str, dict[Schedule, list[Row]]] = {}
    for row in rows:
        if not row.guided:
            schedules = found.setdefault(model_and_seed(row.model)[0], {})
            schedules.setdefault(row.schedule, []).append(row)
    return {
        model: [Repeated(model=model, rows=tuple(own)) for own in schedules.values()]
        for model, schedules in found.items()
    }


OneOrRepeated = TypeVar("OneOrRepeated", Row, Repeated)


def at_steps(rows: Iterable[OneOrRepeated], steps: int) -> OneOrRepeated | None:
    """Return the first with this number of steps."""
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
    """Yield a row with RoPE mixing and the same without, of the same seed, where both are there."""

    def alike(row: Row) -> Any:
        return row.architecture, row.ratio, row.setting, model_and_seed(row.model)[1]

    for group in _groups(rows, alike):
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
