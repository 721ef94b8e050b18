"""The tasks of a preset: which there are, what each reads, which settings decide its result.

Everything that decides what is stale follows from here; Snakemake and DVC only order and store. No
torch, no files.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pcb.config import Preset, SamplingConfig, SystemConfig
from pcb.config.loader import plain
from pcb.config.paths import held_out_part, token_part
from pcb.errors import UserError
from pcb.order.names import CHECKERBOARD
from pcb.pipeline.task import Input, Task


class Pipeline:
    """All tasks of one preset, each after those that it reads."""

    def __init__(self, name: str, preset: Preset) -> None:
        self.name = name
        self.preset = preset
        self._tasks = {(task.stage, task.variant): task for task in _Graph(name, preset).tasks()}

    def __iter__(self) -> Iterator[Task]:
        """Iterate in an order in which every task follows those that it reads."""
        return iter(self._tasks.values())

    def task(self, stage: str, variant: str = "all") -> Task:
        """Return one task, or raise UserError naming those that there are."""
        try:
            return self._tasks[stage, variant]
        except KeyError:
            known = ", ".join(self.variants(stage)) or "none"
            raise UserError(
                f"preset {self.name} has no {stage} {variant!r}; there are: {known}"
            ) from None

    def variants(self, stage: str) -> list[str]:
        """Return the variants of a stage, in the order of params.yaml."""
        return [task.variant for task in self if task.stage == stage]


@dataclass(frozen=True)
class _Graph:
    """Says of each stage what its tasks read, and which settings decide their results."""

    name: str
    preset: Preset

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks in pipeline order; there is one only where something reads it."""
        preset = self.preset
        data = self._task("data", plain(preset.data))
        tokenizer = self._tokenizer(data)
        reference = self._reference(data)
        tokens = self._tokens(data, tokenizer)
        trains = any(run.released is None for run in preset.models.values())
        samples = any(map(preset.sampling_configs, preset.models)) or bool(preset.systems)
        shared = [tokenizer, reference] if samples else [tokenizer]
        if (trains and preset.tokens.source == "cache") or preset.likelihood_sizes:
            shared.append(tokens)
        if trains or any(read.task == data for task in shared for read in task.inputs):
            shared.insert(0, data)
        yield from shared
        trained, sampled, measured, likely = [], [], [], []
        for model in preset.models:
            train = self._train(model, data, tokenizer, tokens)
            yield train
            trained.append(train)
            for config in preset.sampling_configs(model):
                sample = self._sample(config, train, tokenizer)
                yield sample
                sampled.append(sample)
                metrics = self._metrics(sample, tokenizer, reference)
                yield metrics
                measured.append(metrics)
            for config in preset.likelihood_configs(model):
                likelihood = self._nll(config, train, tokenizer, tokens)
                yield likelihood
                likely.append(likelihood)
        for name in preset.systems:
            train, sample, metrics = self._system(name, reference)
            yield from (train, sample, metrics)
            trained.append(train)
            sampled.append(sample)
            measured.append(metrics)
        made = (*shared, *trained, *sampled, *measured, *likely)
        yield self._task("report", plain(preset.claims), *made)

    def _tokenizer(self, data: Task) -> Task:
        settings = self.preset.tokenizer
        reads = () if settings.source == "released" else (data,)
        return self._task("tokenizer", plain(settings), *reads)

    def _reference(self, data: Task) -> Task:
        """Return the task of what samples are compared with."""
        if self.preset.classifier is not None:
            return self._task("reference", plain(self.preset.classifier), data)
        metrics = self.preset.metrics
        settings = {"extractor": metrics.extractor, "images": metrics.reference_images}
        return self._task("reference", settings)

    def _tokens(self, data: Task, tokenizer: Task) -> Task:
        """Return the task of the token cache, one partition per scale and split of the images."""
        preset = self.preset
        each = {"shard_images": preset.tokens.shard_images}
        sizes = preset.all_sizes if preset.tokens.source == "cache" else ()
        settings: dict[str, Any] = {**each, "sizes": list(sizes)}
        if preset.likelihood is not None and preset.likelihood_sizes:
            held_out = {"images": preset.likelihood.images}
            settings["held_out"] = {**held_out, "sizes": list(preset.likelihood_sizes)}
        task = self._task("tokens", settings, data, tokenizer)
        keys = {token_part(size): task.key_with({**each, "size": size}) for size in sizes}
        for size in preset.likelihood_sizes:
            own = {**each, "held_out": held_out, "size": size}
            keys[held_out_part(size)] = task.key_with(own)
        return replace(task, partitions=tuple(keys.items()))

    def _train(self, model: str, data: Task, tokenizer: Task, tokens: Task) -> Task:
        """Return the task of a model: trained on cached tokens or images, or released weights."""
        preset, run = self.preset, self.preset.models[model]
        settings = {key: value for key, value in plain(run).items() if value is not None}
        if run.model.order == CHECKERBOARD:
            # A model of the paper's order has the key that it had when there was no other.
            del settings["model"]["order"]
        sizes = preset.sizes(model)
        if run.released is not None:
            # What a trained model knows through its inputs' keys.
            settings |= {"sizes": list(sizes), "classes": preset.data.num_classes}
            return self._task("train", settings, tokenizer, model=model)
        if preset.tokens.source == "images":
            return self._task("train", settings, data, tokenizer, model=model)
        scales = Input(task=tokens, partitions=tuple(token_part(size) for size in sizes))
        return self._task("train", settings, scales, tokenizer, model=model)

    def _sample(self, config: SamplingConfig, train: Task, tokenizer: Task) -> Task:
        # The word `point` is part of every sample set's key.
        settings = {"sampling": plain(self.preset.sampling), "point": plain(config)}
        return self._task(
            "sample", settings, train, tokenizer, model=train.model, sampling_config=config
        )

    def _metrics(self, sample: Task, tokenizer: Task, reference: Task, **shown: Any) -> Task:
        settings = {**plain(self.preset.metrics), **shown}
        own: dict[str, Any] = {"model": sample.model, "sampling_config": sample.sampling_config}
        return self._task("metrics", settings, sample, tokenizer, reference, **own)

    def _nll(self, config: SamplingConfig, train: Task, tokenizer: Task, tokens: Task) -> Task:
        """Return the likelihood of a model and a schedule, under whatever names configs have it."""
        assert train.model is not None
        sizes = self.preset.sizes(train.model)
        held_out = Input(task=tokens, partitions=tuple(held_out_part(size) for size in sizes))
        return self._task(
            "likelihood",
            {"blocks": [list(blocks) for blocks in config.schedule(sizes).blocks]},
            train,
            tokenizer,
            held_out,
            model=train.model,
            sampling_config=config,
        )

    def _system(self, name: str, reference: Task) -> tuple[Task, Task, Task]:
        """Return the tasks of another system: weights and tokenizer, images, scores."""
        preset, run = self.preset, self.preset.systems[name]
        train = self._task("train", plain(run.weights_settings), model=name)
        sampling = {"sampling": plain(preset.sampling), **plain(run.sampling_settings)}
        del sampling["sampling"]["temperature"]  # The system's own counts.
        sample = self._task("sample", sampling, train, model=name, sampling_config=run.config)
        shown = {**run.image_settings, "image_size": preset.data.image_size}
        metrics = self._metrics(sample, train, reference, **shown)
        return train, sample, metrics

    def _task(
        self,
        stage: str,
        settings: Any,
        *reads: Task | Input,
        model: str | None = None,
        sampling_config: SamplingConfig | SystemConfig | None = None,
    ) -> Task:
        """Return a task; what it reads is read whole, unless an input says otherwise."""
        return Task(
            preset=self.name,
            stage=stage,
            model=model,
            sampling_config=sampling_config,
            settings=settings,
            inputs=tuple(read if isinstance(read, Input) else Input(task=read) for read in reads),
        )
