"""Settings of a model that is another system of the paper's Table 1."""

from typing import Any, Literal

import msgspec

from pcb.config.base import Count, Positive, Settings
from pcb.config.tokenizer import Autoencoder
from pcb.published.system import Classes, Resize, Rounding, Size, System
from pcb.published.systems import catalog


class Ways(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the published run and this package's may differ; `published` is as the system did."""

    classes: Classes | Literal["published"] = "balanced"
    """`balanced` gives every class as many images; `drawn` draws one for every image."""
    rounding: Rounding | Literal["published"] = "published"
    resize: Resize | Literal["published"] = "published"

    def of(self, system: System) -> "Ways":
        """Return the ways with what is `published` put in its place."""
        named = {
            name: getattr(system.ways if way == "published" else self, name)
            for name, way in msgspec.structs.asdict(self).items()
        }
        return Ways(**named)


class SystemConfig(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a system's images are sampled: as it was published."""

    toy: bool = False
    """Whether sizes are not the published ones."""

    @property
    def name(self) -> str:
        """Name of the config, as `SamplingConfig` has one."""
        return "toy" if self.toy else "published"


class SystemRun(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `models` that names a published system; nothing of it is trained."""

    system: str
    """Its name in Table 1."""
    weights: Literal["released", "random"] = "released"
    """Random weights serve to measure time, and to try a preset out."""
    seed: Count = 0
    """Of random weights."""
    size: dict[str, Size] = {}
    """Sizes other than the published ones, in the words of its description; weights are random."""
    steps: Positive | None = None
    """Steps that a schedule is made for, where blocks follow one; None as published."""
    tokenizer: Autoencoder | None = None
    """Another architecture than the published one's, with random weights."""
    ways: Ways = Ways()

    def __post_init__(self) -> None:
        if self.weights == "released" and (self.size or self.tokenizer is not None):
            raise ValueError("`size` and `tokenizer` go with `weights: random` alone")

    @property
    def published(self) -> System:
        """The catalog's entry."""
        return catalog()[self.system]

    @property
    def described(self) -> System:
        """The catalog's entry with this run's sizes and steps."""
        own = self.published
        size = {name: x for name, x in self.size.items() if name in own.description}
        return msgspec.structs.replace(
            own,
            description={**own.description, **size},
            schedule_steps=own.schedule_steps and (self.steps or own.schedule_steps),
        )

    @property
    def weights_settings(self) -> dict[str, Any]:
        """What decides its weights, and its tokenizer's.

        It is what the run comes to, so that a change of the catalog makes its result anew.
        """
        system = self.described
        seed = {"seed": self.seed} if self.weights == "random" else {}
        found = {"kind": system.kind, "description": system.description, **seed}
        return {"system": self.system, "weights": self.weights, "tokenizer": self.tokenizer} | found

    @property
    def sampling_settings(self) -> dict[str, Any]:
        """What decides its codes beside that."""
        names = ("schedule_steps", "guidance", "temperature", "top_k", "top_p")
        classes = self.ways.of(self.published).classes
        return {name: getattr(self.described, name) for name in names} | {"classes": classes}

    @property
    def image_settings(self) -> dict[str, Any]:
        """What decides the images of its codes beside the tokenizer."""
        ways = self.ways.of(self.published)
        return {"rounding": ways.rounding, "resize": ways.resize}

    @property
    def config(self) -> SystemConfig:
        """How its images are sampled."""
        return SystemConfig(toy=bool(self.size))
