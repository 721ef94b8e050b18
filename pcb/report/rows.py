"""Rows of the report: one for each model and sampling config, with its scores if it was run.

Rows are values made from settings and from the results of manifests; tables, figures and claims are
made from rows alone. A row that was not run has no scores, and nothing fills them in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pcb.config import Model, Preset, SamplingConfig
from pcb.config.loader import plain
from pcb.order.allocation import allocation_of
from pcb.order.schedule import Schedule
from pcb.report.likelihood import COLUMNS as LIKELIHOOD_COLUMNS
from pcb.report.likelihood import Nats
from pcb.runtime.hashing import content_hash

NOT_RUN = "not run"
GUIDED = "guided"
"""What stands where a row with guidance would have a likelihood: there is none."""
SCORES = ("fid", "is", "precision", "recall", "kid")
COLUMNS = (
    "model",
    "ratio",
    "scales",
    "steps",
    "blocks_per_scale",
    "allocation",
    "cfg",
    "cfg_start_step",
    "images",
    *SCORES,
    "sampling_seconds",
    *LIKELIHOOD_COLUMNS,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the main table."""

    model: str
    setting: str
    ratio: float | None
    """Quotient of neighboring scales; None for a single scale."""
    schedule: Schedule
    cfg: float
    cfg_start_step: int
    images: int
    width: int
    layers: int
    mixing_layers: int
    order: str
    """The order of the tokens of a scale."""
    architecture: str
    """Hash of the architecture without ratio and mixing: equal for models that are comparable."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Measured numbers by name; empty if the row was not run."""
    sampling_seconds: float | None = None
    """Seconds for all images of the row."""
    nats: Nats | None = None
    """Likelihood of held-out images under the row's schedule; None if it was not measured."""
    has_likelihood: bool = False
    """Whether there is one to measure: the preset asks for it, and the row has no guidance."""

    @property
    def variant(self) -> str:
        """Name of the row's sample and metrics tasks."""
        return f"{self.model}/{self.setting}"

    @property
    def steps(self) -> int:
        """Total number of steps over all scales."""
        return self.schedule.steps

    @property
    def guided(self) -> bool:
        """Whether the images were sampled with guidance."""
        return self.cfg > 0

    @property
    def was_run(self) -> bool:
        """Whether there are measured numbers."""
        return bool(self.scores)

    @property
    def one_block(self) -> bool:
        """Whether every scale is sampled in one step."""
        return max(self.schedule.blocks_per_scale) == 1

    @property
    def ratio_name(self) -> str:
        """The ratio as text: `2`, `1.5`, `single`."""
        return "single" if self.ratio is None else f"{self.ratio:.4g}"

    @property
    def seconds_per_image(self) -> float | None:
        """Measured sampling time of one image."""
        return None if self.sampling_seconds is None else self.sampling_seconds / self.images


def make_row(
    preset: Preset,
    model: str,
    config: SamplingConfig,
    scores: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Row:
    """Return the row of one model and sampling config.

    `scores` and `sampling` are the results of the metrics' and the samples' manifests, None where
    that task was not run. Of the scores only numbers are kept.
    """
    settings = preset.models[model].model
    sampling = sampling or {}
    images = int(sampling.get("images", preset.sampling.images))
    seconds = sampling.get("seconds_per_image")
    numbers = {name: float(x) for name, x in (scores or {}).items() if _is_number(x)}
    return Row(
        model=model,
        setting=config.name,
        ratio=None if settings.scale_ratio == "single" else float(settings.scale_ratio),
        schedule=config.schedule(preset.sizes(model)),
        cfg=config.cfg,
        cfg_start_step=config.cfg_start_step,
        images=images,
        width=settings.width,
        layers=settings.layers,
        mixing_layers=settings.mixing_layers,
        order=settings.order,
        architecture=_architecture(settings),
        scores=numbers,
        sampling_seconds=None if seconds is None else seconds * images,
    )


def extra_columns(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the names of scores beyond the fixed columns, in alphabetical order."""
    names = {name for row in rows for name in row.scores}
    return tuple(sorted(names - set(COLUMNS)))


def row_cells(row: Row, extra: Sequence[str] = ()) -> dict[str, str]:
    """Return the row as text, column by column, every digit kept; `not run` where that is so."""
    measured = {name: _full(row.scores.get(name), row.was_run) for name in (*SCORES, *extra)}
    fixed = {
        "model": row.model,
        "ratio": row.ratio_name,
        "scales": " ".join(map(str, row.schedule.sizes)),
        "steps": str(row.steps),
        "blocks_per_scale": " ".join(map(str, row.schedule.blocks_per_scale)),
        "allocation": allocation_of(row.schedule),
        "cfg": f"{row.cfg:g}",
        "cfg_start_step": str(row.cfg_start_step),
        "images": str(row.images),
    }
    seconds = _full(row.sampling_seconds, row.sampling_seconds is not None)
    cells = {**fixed, **measured, "sampling_seconds": seconds, **_likelihood_cells(row)}
    return {name: cells[name] for name in (*COLUMNS, *extra)}


def _likelihood_cells(row: Row) -> dict[str, str]:
    """Return the likelihood's columns; a word where there is none."""
    if row.nats is None:
        absent = GUIDED if row.guided else NOT_RUN if row.has_likelihood else ""
        return dict.fromkeys(LIKELIHOOD_COLUMNS, absent)
    values = {name: of(row.nats) for name, of in LIKELIHOOD_COLUMNS.items()}
    return {
        name: " ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
        for name, value in values.items()
    }


def scores_json(rows: Iterable[Row]) -> dict[str, dict[str, Mapping[str, float]]]:
    """Return the scores of the rows that were run, ``{model: {setting: {score: number}}}``.

    In the form that `dvc metrics` compares.
    """
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for row in rows:
        scores = dict(row.scores)
        if row.nats is not None:
            scores |= {"nll": row.nats.nll, "price": row.nats.price, "price_se": row.nats.price_se}
        if scores:
            found.setdefault(row.model, {})[row.setting] = dict(sorted(scores.items()))
    return found


def lines(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return each model's measured, unguided rows by rising step count: the lines of a curve."""
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        if row.was_run and not row.guided:
            by_model.setdefault(row.model, []).append(row)
    return {model: sorted(found, key=lambda row: row.steps) for model, found in by_model.items()}


def _architecture(model: Model) -> str:
    """Hash the architecture without the two settings that the claims compare."""
    settings = {k: v for k, v in plain(model).items() if k not in ("scale_ratio", "mixing_layers")}
    return content_hash(settings)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _full(value: float | None, was_run: bool) -> str:
    """Write a number so that reading it gives the same number; a missing one as empty."""
    if not was_run:
        return NOT_RUN
    return "" if value is None else repr(value)
