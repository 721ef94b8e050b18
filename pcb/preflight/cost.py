"""What a preset will take before anything of it runs: arithmetic and bytes, unit by unit. No torch.

Time follows from arithmetic and the rates of a device (`pcb.preflight.duration`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pcb.config import (
    Digits,
    ImageNet,
    ModelRun,
    Preset,
    Requantisation,
    SweepPoint,
    TokenizerTraining,
)
from pcb.config.images import TEN_CROPS
from pcb.config.loader import convert
from pcb.order.schedule import Schedule, num_tokens
from pcb.pipeline.tasks import Unit
from pcb.preflight import flops
from pcb.preflight.rates import Kind, Precision, stored_precision
from pcb.preflight.size import num_parameters

IMAGENET_TRAIN = 1_281_167
_FLOAT, _CODE = 4, 2
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


def train_images(preset: Preset) -> int:
    """Return the number of training images; ImageNet's where the settings take what there is."""
    data = preset.data
    if isinstance(data, ImageNet):
        return data.train_images or IMAGENET_TRAIN
    # scikit-learn's 1,797 digits, less those that are held out.
    return round(1797 * (1 - data.held_out))


def model_of(unit: Unit) -> str:
    """Return the model of a unit of a stage that has one for each."""
    return unit.variant.partition("/")[0]


def schedule_of(unit: Unit, preset: Preset) -> tuple[Schedule, int | None]:
    """Return the schedule of a unit of `sample`, and its first guided step, None without."""
    point = convert(unit.settings["point"], SweepPoint, unit.name)
    return point.schedule(preset.sizes(model_of(unit))), point.cfg_start_step if point.cfg else None


def work_of(unit: Unit, preset: Preset) -> list[Work]:
    """Return the arithmetic of a unit; none for what no accelerator does."""
    model = model_of(unit)
    if unit.stage == "tokenizer":
        return list(_tokenizer_work(preset))
    if unit.stage == "reference" and preset.metrics.extractor == "inception":
        return [Work(kind="features", flops=preset.metrics.reference_images * flops.INCEPTION)]
    if unit.stage == "tokens":
        images = train_images(preset) * _crops(preset)
        return [_encoding(preset, images * _pyramid(preset, preset.all_sizes))]
    if unit.stage == "train":
        return list(training_work(preset, model))
    if unit.stage == "sample":
        return [_sampling_work(preset, unit)]
    if unit.stage == "metrics":
        return list(_metrics_work(preset))
    return []


def bytes_of(unit: Unit, preset: Preset) -> int:
    """Return the bytes of a unit's result, about; checkpoints, gone when it is done, left out."""
    model = model_of(unit)
    codes = preset.tokenizer.autoencoder
    if unit.stage == "data":
        return _data_bytes(preset)
    if unit.stage == "tokenizer":
        return _FLOAT * (flops.autoencoder_weights(codes) + codes.codebook_size * codes.code_dim)
    if unit.stage == "reference":
        rows = preset.metrics.reference_images if isinstance(preset.data, ImageNet) else 0
        return _FLOAT * rows * _POOL
    if unit.stage == "tokens":
        return _CODE * train_images(preset) * _crops(preset) * num_tokens(preset.all_sizes)
    if unit.stage == "train":
        run = preset.models[model]
        copies = 2 if run.training is not None and run.training.ema else 1
        return copies * _FLOAT * _parameters(preset, model)
    if unit.stage == "sample":
        return _CODE * preset.sampling.images * num_tokens(preset.sizes(model))
    return 0


def checkpoint_bytes(preset: Preset) -> int:
    """Return the bytes of the largest checkpoint: weights, two moments, moving average."""
    trained = [name for name, run in preset.models.items() if run.training is not None]
    return max((4 * _FLOAT * _parameters(preset, name) for name in trained), default=0)


def _tokenizer_work(preset: Preset) -> Iterator[Work]:
    codes, recipe = preset.tokenizer.autoencoder, preset.tokenizer.training
    if preset.tokenizer.requantisation is not None:
        yield from _requantisation_work(preset, preset.tokenizer.requantisation)
    if recipe is None:
        return
    images = recipe.iterations * recipe.batch_size
    encoded = _drawn(preset, recipe)
    # The decoder costs about what the encoder does, with one block more a level.
    finest = recipe.scales[-1]
    decoded = encoded * flops.decode(codes, finest) / flops.encode(codes, finest)
    yield Work(kind="training", flops=3 * images * (encoded + decoded))


def _requantisation_work(preset: Preset, recipe: Requantisation) -> Iterator[Work]:
    """Latents of what is drawn, or of a cache; then both codebooks at every scale."""
    codes = preset.tokenizer.autoencoder
    start = 1 if recipe.mode == "as_published" else recipe.start_batches
    drawn = (recipe.iterations + start) * recipe.batch_size * _drawn(preset, recipe)
    cached = (recipe.cached_images or 0) * _pyramid(preset, recipe.scales)
    sizes = tuple({*recipe.scales, *preset.all_sizes})
    images = recipe.measured_images
    yield _encoding(preset, (cached or drawn) + images * _pyramid(preset, sizes))
    decoded = sum(flops.decode(codes, size) for size in sizes)
    yield Work(kind="decoding", flops=2 * images * decoded, precision=_convolutions(preset))
    if recipe.rfid:
        yield Work(kind="features", flops=3 * images * len(sizes) * flops.INCEPTION)


def _drawn(preset: Preset, recipe: TokenizerTraining | Requantisation) -> float:
    """Return the operations of encoding an image of a scale that is drawn, on average."""
    codes, uniform = preset.tokenizer.autoencoder, recipe.scale_probability / len(recipe.scales)
    finest = (1 - recipe.scale_probability) * flops.encode(codes, recipe.scales[-1])
    return finest + uniform * _pyramid(preset, recipe.scales)


def training_work(preset: Preset, model: str) -> Iterator[Work]:
    """Yield the arithmetic of training a model; none of a released one."""
    run: ModelRun = preset.models[model]
    if run.training is None:
        return
    images = run.training.epochs * train_images(preset)
    sizes = preset.sizes(model)
    step = flops.training_step(run.model, preset.tokenizer.autoencoder, sizes)
    precision = stored_precision(run.training.precision)
    width = run.model.width
    yield Work(kind="training", flops=images * step, precision=precision, width=width)
    if preset.tokens.source == "images":
        yield _encoding(preset, images * _pyramid(preset, sizes))


def _sampling_work(preset: Preset, unit: Unit) -> Work:
    model = preset.models[model_of(unit)].model
    schedule, guided_from = schedule_of(unit, preset)
    image = flops.sampling(model, preset.tokenizer.autoencoder, schedule, guided_from)
    return Work(
        kind="sampling",
        flops=preset.sampling.images * image,
        precision=stored_precision(preset.sampling.precision),
        width=model.width,
    )


def _metrics_work(preset: Preset) -> Iterator[Work]:
    images = preset.sampling.images
    decoded = flops.decode(preset.tokenizer.autoencoder, preset.grid)
    rounded = stored_precision(preset.metrics.decode_precision)
    precision = _convolutions(preset) if rounded == "float32" else rounded
    yield Work(kind="decoding", flops=images * decoded, precision=precision)
    if preset.metrics.extractor == "inception":
        yield Work(kind="features", flops=images * flops.INCEPTION)


def _encoding(preset: Preset, operations: float) -> Work:
    return Work(kind="encoding", flops=operations, precision=_convolutions(preset))


def _convolutions(preset: Preset) -> Precision:
    """Return how the autoencoder's convolutions multiply float32."""
    return "tf32" if getattr(preset.tokenizer, "tf32", False) else "float32"


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


def _crops(preset: Preset) -> int:
    return preset.data.renderings if isinstance(preset.data, Digits) else TEN_CROPS


def _data_bytes(preset: Preset) -> int:
    data = preset.data
    if isinstance(data, ImageNet):
        return _INDEX_ROW * (train_images(preset) + (data.validation_images or 0))
    pixels = 3 * data.image_size**2
    return pixels * (train_images(preset) * data.renderings + data.reference_images)
