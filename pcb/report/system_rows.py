"""Measured rows of the other systems of Table 1 in a preset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pcb.config import Preset


class Scored(Protocol):
    """What a row of scores has, of the paper's own models or of another system's."""

    @property
    def variant(self) -> str:
        """Name of the row's sample and metrics tasks."""
        ...

    @property
    def scores(self) -> Mapping[str, float]:
        """Measured numbers by name; empty if the row was not run."""
        ...

    @property
    def was_run(self) -> bool:
        """Whether there are measured numbers."""
        ...

    @property
    def images(self) -> int:
        """Images that were sampled."""
        ...

    @property
    def seconds_per_image(self) -> float | None:
        """Measured sampling time of one image."""
        ...


@dataclass(frozen=True, kw_only=True)
class SystemRow:
    """Another system in a preset, and what was measured of it."""

    system: str
    model: str
    setting: str
    released: bool
    """Whether its weights are the released ones, at the published size."""
    steps: int | None
    images: int
    parameters: int | None
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds_per_image: float | None = None

    @property
    def variant(self) -> str:
        """Name of the row's sample and metrics tasks."""
        return f"{self.model}/{self.setting}"

    @property
    def was_run(self) -> bool:
        """Whether there are measured numbers."""
        return bool(self.scores)


def make_system_row(
    preset: Preset,
    model: str,
    scores: Mapping[str, Any] | None,
    sampling: Mapping[str, Any] | None,
    weights: Mapping[str, Any] | None,
) -> SystemRow:
    """Return the row of a system; mappings are results of manifests, None where not run."""
    run, sampling = preset.systems[model], sampling or {}
    numbers = {
        name: float(x)
        for name, x in (scores or {}).items()
        if isinstance(x, int | float) and not isinstance(x, bool)
    }
    return SystemRow(
        system=run.system,
        model=model,
        setting=run.config.name,
        released=run.weights == "released",
        steps=sampling.get("steps"),
        images=int(sampling.get("images", preset.sampling.images)),
        parameters=None if weights is None else int(weights["parameters"]),
        scores=numbers,
        seconds_per_image=sampling.get("seconds_per_image"),
    )
