"""The cost of a preset's tasks, from settings alone: arithmetic and bytes. No torch.

Time follows from it and the rates of a device (`pcb.preflight.duration`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pcb.config import (
    Autoencoder,
    ImageFolder,
    ImageNet,
    Preset,
    Requantization,
    SamplingConfig,
    SystemRun,
    TokenizerTraining,
    Training,
)
from pcb.data.folder import find_images
from pcb.order.schedule import num_tokens
from pcb.pipeline.task import Task
from pcb.preflight import flops, systems
from pcb.preflight.image_counts import held_out_images, train_images
from pcb.preflight.overhead import CAPTURE, COMPILE, scoring
from pcb.preflight.rates import Kind, Precision, Range, stored_precision
from pcb.preflight.size import num_parameters

_DOUBLE, _FLOAT, _CODE = 8, 4, 2
_INDEX_ROW = 64
"""Bytes of one image in the index, nearly: its path, and five numbers."""
_POOL = 2048


@dataclass(frozen=True, kw_only=True)
class Work:
    """Arithmetic of one kind; `width` is that of the transformer that does it."""

    kind: Kind
    flops: float
    precision: Precision = "float32"
    width: int | None = None


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps one after another, and the images of each, which several devices can share."""

    number: float
    images: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a task takes: arithmetic, none where no accelerator does it, and bytes of its result."""

    works: tuple[Work, ...] = ()
    overhead: Range = Range()
    """Seconds beside arithmetic, from the first batch on."""
    steps: Steps | None = None
    """What a stage that is `ranked` works in."""
    bytes: int = 0
    """About, without checkpoints, which are gone when the task is done."""


def cost_of(task: Task, preset: Preset) -> Cost:
    """Return what a task takes; nothing for a stage that has no function in `COSTS`."""
    cost = COSTS.get(task.stage)
    return Cost() if cost is None else cost(task, preset)


def checkpoint_bytes(preset: Preset) -> int:
    """Return the bytes of the largest checkpoint: weights, two moments, moving average."""
    trained = [name for name, run in preset.models.items() if run.training is not None]
    return max((4 * _FLOAT * _parameters(preset, name) for name in trained), default=0)


def _data(task: Task, preset: Preset) -> Cost:
    data = preset.data
    if isinstance(data, ImageNet):
        return Cost(bytes=_INDEX_ROW * (train_images(preset) + (data.validation_images or 0)))
    if isinstance(data, ImageFolder):
        found = find_images(data)
        return Cost(bytes=_INDEX_ROW * (len(found.train) + len(found.held_out)))
    images = train_images(preset) * data.crops + data.reference_images
    return Cost(bytes=3 * data.image_size**2 * images)


def _tokenizer(task: Task, preset: Preset) -> Cost:
    codes = preset.tokenizer.autoencoder
    weights = flops.autoencoder_weights(codes) + codes.codebook_size * codes.code_dim
    return Cost(works=tuple(_tokenizer_work(preset)), bytes=_FLOAT * weights)


def _reference(task: Task, preset: Preset) -> Cost:
    images = preset.metrics.reference_images
    inception = preset.metrics.extractor == "inception"
    features = Work(kind="features", flops=images * flops.INCEPTION)
    kept = images if inception else 0
    return Cost(works=(features,) if inception else (), bytes=_FLOAT * kept * _POOL)


def _tokens(task: Task, preset: Preset) -> Cost:
    sizes = preset.all_sizes if preset.tokens.source == "cache" else ()
    splits = (
        (train_images(preset) * preset.data.crops, sizes),
        (held_out_images(preset), preset.likelihood_sizes),
    )
    encoding = _encoding(preset, sum(n * _pyramid(preset, sides) for n, sides in splits))
    codes = sum(n * num_tokens(sides) for n, sides in splits)
    return Cost(works=(encoding,), bytes=_CODE * codes)


def _train(task: Task, preset: Preset) -> Cost:
    assert task.model is not None
    if task.model in preset.systems:
        return Cost(bytes=_FLOAT * systems.weights(preset.systems[task.model]))
    training, weights = preset.models[task.model].training, _parameters(preset, task.model)
    if training is None:
        return Cost(bytes=_FLOAT * weights)
    images = training.epochs * train_images(preset)
    return Cost(
        works=tuple(_training_work(preset, task.model, training, images)),
        overhead=COMPILE,
        steps=Steps(number=images / training.batch_size, images=training.batch_size),
        bytes=(2 if training.ema else 1) * _FLOAT * weights,
    )


def _sample(task: Task, preset: Preset) -> Cost:
    assert task.model is not None
    if task.model in preset.systems:
        return _sample_system(preset, preset.systems[task.model])
    assert isinstance(task.sampling_config, SamplingConfig)
    sizes, config = preset.sizes(task.model), task.sampling_config
    schedule = config.schedule(sizes)
    image = flops.sampling(
        preset.models[task.model].model,
        preset.tokenizer.autoencoder,
        schedule,
        config.cfg_start_step if config.cfg else None,
    )
    images = preset.sampling.images
    sampling = Work(
        kind="sampling",
        flops=images * image,
        precision=stored_precision(preset.sampling.precision),
        width=preset.models[task.model].model.width,
    )
    # Where guidance starts, one call more catches up with what was sampled.
    captured = CAPTURE * (schedule.steps + bool(config.cfg))
    return Cost(works=(sampling,), overhead=captured, bytes=_CODE * images * num_tokens(sizes))


def _sample_system(preset: Preset, run: SystemRun) -> Cost:
    images = preset.sampling.images
    sampling = Work(
        kind="sampling",
        flops=images * systems.sampling(run.described),
        precision=stored_precision(preset.sampling.precision),
        width=systems.width(run.described),
    )
    return Cost(
        works=(sampling,),
        overhead=CAPTURE * run.described.steps,
        bytes=_CODE * images * systems.tokens(run.described),
    )


def _metrics(task: Task, preset: Preset) -> Cost:
    run = preset.systems.get(task.model or "")
    grid = preset.grid if run is None else systems.grid(run.described)
    codes = preset.tokenizer.autoencoder if run is None else run.tokenizer or Autoencoder()
    works = tuple(_metrics_work(preset, codes, grid))
    return Cost(works=works, overhead=scoring(preset.metrics))


def _likelihood(task: Task, preset: Preset) -> Cost:
    """One pass over every held-out image, whatever the schedule."""
    assert task.model is not None
    model, sizes = preset.models[task.model].model, preset.sizes(task.model)
    images = held_out_images(preset)
    passes = images * flops.forward(model, preset.tokenizer.autoencoder, sizes)
    # Of the kinds of work that are measured, passes over whole sequences are training's.
    work = Work(kind="training", flops=passes, width=model.width)
    return Cost(works=(work,), bytes=_DOUBLE * images * (len(sizes) + 1))


COSTS: Mapping[str, Callable[[Task, Preset], Cost]] = {
    "data": _data,
    "tokenizer": _tokenizer,
    "reference": _reference,
    "tokens": _tokens,
    "train": _train,
    "sample": _sample,
    "metrics": _metrics,
    "likelihood": _likelihood,
}


def _tokenizer_work(preset: Preset) -> Iterator[Work]:
    codes, recipe = preset.tokenizer.autoencoder, preset.tokenizer.training
    if preset.tokenizer.requantization is not None:
        yield from _requantization_work(preset, preset.tokenizer.requantization)
    if recipe is None:
        return
    images = recipe.iterations * recipe.batch_size
    encoded = _drawn(preset, recipe)
    # The decoder costs about what the encoder does, with one block more a level.
    finest = recipe.scales[-1]
    decoded = encoded * flops.decode(codes, finest) / flops.encode(codes, finest)
    yield Work(kind="training", flops=3 * images * (encoded + decoded))


def _requantization_work(preset: Preset, recipe: Requantization) -> Iterator[Work]:
    """Latents of what is drawn, or of a cache; then both codebooks at every scale."""
    codes = preset.tokenizer.autoencoder
    start = 1 if recipe.mode == "as_published" else recipe.start_batches
    drawn = (recipe.iterations + start) * recipe.batch_size * _drawn(preset, recipe)
    cached = (recipe.cached_images or 0) * _pyramid(preset, recipe.scales)
    sizes = tuple({*recipe.scales, *preset.all_sizes})
    images = recipe.measured_images
    yield _encoding(preset, (cached or drawn) + images * _pyramid(preset, sizes))
    decoded = sum(flops.decode(codes, size) for size in sizes)
    yield Work(kind="decoding", flops=2 * images * decoded)
    if recipe.rfid:
        yield Work(kind="features", flops=3 * images * len(sizes) * flops.INCEPTION)


def _drawn(preset: Preset, recipe: TokenizerTraining | Requantization) -> float:
    """Return the operations of encoding an image of a scale that is drawn, on average."""
    codes, uniform = preset.tokenizer.autoencoder, recipe.scale_probability / len(recipe.scales)
    finest = (1 - recipe.scale_probability) * flops.encode(codes, recipe.scales[-1])
    return finest + uniform * _pyramid(preset, recipe.scales)


def _training_work(preset: Preset, name: str, training: Training, images: float) -> Iterator[Work]:
    """Yield the arithmetic of training a model on so many images, those of all epochs counted."""
    model, sizes = preset.models[name].model, preset.sizes(name)
    step = flops.training_step(model, preset.tokenizer.autoencoder, sizes)
    precision = stored_precision(training.precision)
    yield Work(kind="training", flops=images * step, precision=precision, width=model.width)
    if preset.tokens.source == "images":
        yield _encoding(preset, images * _pyramid(preset, sizes))


def _metrics_work(preset: Preset, codes: Autoencoder, grid: int) -> Iterator[Work]:
    images = preset.sampling.images
    decoded = flops.decode(codes, grid)
    precision = stored_precision(preset.metrics.decode_precision)
    yield Work(kind="decoding", flops=images * decoded, precision=precision)
    if preset.metrics.extractor == "inception":
        yield Work(kind="features", flops=images * flops.INCEPTION)


def _encoding(preset: Preset, operations: float) -> Work:
    return Work(kind="encoding", flops=operations, precision=_convolutions(preset))


def _convolutions(preset: Preset) -> Precision:
    """Return how the autoencoder's convolutions multiply float32."""
    return "tf32" if preset.tokenizer.tf32 else "float32"


def _pyramid(preset: Preset, sizes: tuple[int, ...]) -> int:
    """Return the operations of encoding one image at these scales."""
    return sum(flops.encode(preset.tokenizer.autoencoder, size) for size in sizes)


def _parameters(preset: Preset, model: str) -> int:
    return num_parameters(
        preset.models[model].model,
        preset.sizes(model),
        preset.data.num_classes,
        preset.tokenizer.autoencoder,
    )
