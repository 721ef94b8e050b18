"""The units of work of a preset: their order, their files and their keys.

A *unit* is one result: the tokenizer, the training of one model, the metrics of one sampling
setting. Its *key* is a hash of the stage, the stage's version, its part of params.yaml and the keys
of the units it reads; whatever has the same key has the same result. Everything that decides what
is stale follows from this file; Snakemake and DVC only order and store. No torch, no files.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pcb.config import Preset
from pcb.config.loader import plain
from pcb.config.paths import ARTIFACTS, MANIFESTS, REPORTS, STAMPS, token_part
from pcb.errors import UserError
from pcb.runtime.hashing import content_hash

# Raise a stage's number when its code comes to give another result from the same settings.
VERSIONS = {
    "data": 2,
    "tokenizer": 2,
    "reference": 2,
    "tokens": 2,
    "train": 2,
    "sample": 3,
    "metrics": 2,
    "report": 1,
}


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One result of a preset: `variant` is `all`, a model's name, or `model/setting`."""

    preset: str
    stage: str
    variant: str = "all"
    settings: Any = field(hash=False)
    """The stage's part of params.yaml as plain data: what the key and the manifest say."""
    inputs: tuple["Input", ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    """(sub-folder, key) where parts of the result stand on their own, as the scales of the token
    cache do: adding one does not touch the others, nor what reads only the others."""

    @property
    def name(self) -> str:
        """How messages call the unit: `train/ratio2`."""
        return self.stage if self.variant == "all" else f"{self.stage}/{self.variant}"

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides the result."""
        return self.key_with(self.settings)

    def key_with(self, settings: Any) -> str:
        """Return the key that this unit would have with other settings."""
        return content_hash(
            [self.stage, VERSIONS[self.stage], settings, [item.key for item in self.inputs]]
        )

    @property
    def manifest(self) -> Path:
        """The small file in git that describes the result; the only output Snakemake knows."""
        return MANIFESTS / self.preset / self.stage / f"{self.variant}.json"

    @property
    def artifact(self) -> Path:
        """The folder of the result's data, versioned by DVC; the report's stands in git."""
        if self.stage == "report":
            return REPORTS / self.preset
        return ARTIFACTS / self.preset / self.stage / self.variant

    @property
    def stamp(self) -> Path:
        """Newer than the manifest while the result is stale (`pcb.pipeline.staleness`)."""
        return STAMPS / self.preset / self.stage / f"{self.variant}.json"


@dataclass(frozen=True, kw_only=True)
class Input:
    """A unit that another one reads, or those of its parts that it reads."""

    unit: Unit
    parts: tuple[str, ...] = ()
    """Sub-folders of the unit's artifact; none means all of it."""

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides what is read."""
        if not self.parts:
            return self.unit.key
        keys = dict(self.unit.parts)
        return content_hash([keys[part] for part in self.parts])


class Pipeline:
    """All units of one preset, each after those that it reads."""

    def __init__(self, name: str, preset: Preset) -> None:
        self.name = name
        self.preset = preset
        self._units = {(unit.stage, unit.variant): unit for unit in _build(name, preset)}

    def __iter__(self) -> Iterator[Unit]:
        """Iterate in an order in which every unit follows those that it reads."""
        return iter(self._units.values())

    def unit(self, stage: str, variant: str = "all") -> Unit:
        """Return one unit, or raise UserError naming those that there are."""
        try:
            return self._units[stage, variant]
        except KeyError:
            known = ", ".join(self.variants(stage)) or "none"
            raise UserError(
                f"preset {self.name} has no {stage} {variant!r}; there are: {known}"
            ) from None

    def variants(self, stage: str) -> list[str]:
        """Return the variants of a stage, in the order of params.yaml."""
        return [unit.variant for unit in self if unit.stage == stage]


def _build(name: str, preset: Preset) -> Iterator[Unit]:
    """Yield the units of a preset in pipeline order; there is one only where something reads it."""
    data = Unit(preset=name, stage="data", settings=plain(preset.data))
    released = preset.tokenizer.source == "released"
    tokenizer = _unit(name, "tokenizer", plain(preset.tokenizer), *([] if released else [data]))
    reference = _reference(name, preset, data)
    tokens = _tokens(name, preset, data, tokenizer)
    trains = any(run.released is None for run in preset.models.values())
    shared = [
        tokenizer,
        reference,
        *([tokens] if trains and preset.tokens.source == "cache" else []),
    ]
    if trains or any(read.unit == data for unit in shared for read in unit.inputs):
        shared.insert(0, data)
    yield from shared
    trained, drawn, scores = [], [], []
    for model in preset.models:
        train = _train(name, preset, model, data, tokenizer, tokens)
        yield train
        trained.append(train)
        for point in preset.points(model):
            settings = {"sampling": plain(preset.sampling), "point": plain(point)}
            variant = f"{model}/{point.name}"
            sample = _unit(name, "sample", settings, train, tokenizer, variant=variant)
            yield sample
            drawn.append(sample)
            metrics = plain(preset.metrics)
            score = _unit(name, "metrics", metrics, sample, tokenizer, reference, variant=variant)
            yield score
            scores.append(score)
    yield _unit(name, "report", plain(preset.claims), *shared, *trained, *drawn, *scores)


def _train(
    name: str, preset: Preset, model: str, data: Unit, tokenizer: Unit, tokens: Unit
) -> Unit:
    """Return the unit of a model: trained on cached tokens or on images, or released weights."""
    run = preset.models[model]
    settings = {key: value for key, value in plain(run).items() if value is not None}
    inputs: tuple[Input, ...] = (Input(unit=tokenizer),)
    if run.released is not None:
        # What a trained model knows through its inputs' keys.
        settings |= {"sizes": list(preset.sizes(model)), "classes": preset.data.num_classes}
    elif preset.tokens.source == "images":
        inputs = (Input(unit=data), *inputs)
    else:
        parts = tuple(token_part(size) for size in preset.sizes(model))
        inputs = (Input(unit=tokens, parts=parts), *inputs)
    return Unit(preset=name, stage="train", variant=model, settings=settings, inputs=inputs)


def _reference(name: str, preset: Preset, data: Unit) -> Unit:
    """Return the unit of what samples are compared with."""
    if preset.classifier is not None:
        return _unit(name, "reference", plain(preset.classifier), data)
    metrics = preset.metrics
    settings = {"extractor": metrics.extractor, "images": metrics.reference_images}
    return _unit(name, "reference", settings)


def _unit(preset: str, stage: str, settings: Any, *reads: Unit, variant: str = "all") -> Unit:
    """Return a unit that reads other units whole."""
    inputs = tuple(Input(unit=unit) for unit in reads)
    return Unit(preset=preset, stage=stage, variant=variant, settings=settings, inputs=inputs)


def _tokens(preset_name: str, preset: Preset, data: Unit, tokenizer: Unit) -> Unit:
    """Return the unit of the token cache, one part a scale."""
    settings = {"shard_images": preset.tokens.shard_images}
    bare = _unit(preset_name, "tokens", settings, data, tokenizer)
    sizes = preset.all_sizes
    return Unit(
        preset=preset_name,
        stage="tokens",
        settings={**settings, "sizes": list(sizes)},
        inputs=bare.inputs,
        parts=tuple((token_part(n), bare.key_with({**settings, "size": n})) for n in sizes),
    )
