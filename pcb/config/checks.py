"""Checks across settings that are valid each by itself. No torch."""

import msgspec

from pcb.config import Digits, ImageFolder, ImageNet, Preset, SystemRun
from pcb.config.files import RELEASED_MODELS
from pcb.config.seeds import model_and_seed
from pcb.errors import UserError
from pcb.order.allocation import untrained_warning
from pcb.order.names import ORDER_NAMES
from pcb.published.systems import catalog


def check_consistency(preset: Preset, place: str) -> None:
    """Refuse what no single setting shows to be wrong: sizes that don't divide, unknown models.

    Raises UserError; `place` begins the path of the setting to put right.
    """
    stride = preset.tokenizer.autoencoder.stride
    if preset.data.image_size % stride:
        raise UserError(
            f"{place}.data.image_size = {preset.data.image_size}: expected a multiple of the "
            f"tokenizer's stride {stride}"
        )
    _check_metrics(preset, place)
    _check_released(preset, place)
    for name, run in preset.systems.items():
        _check_system(preset, run, f"{place}.models.{name}")
    _check_orders(preset, place)
    _check_likelihood(preset, place)
    for index, sweep in enumerate(preset.sweep):
        for model in sweep.models:
            if model not in preset.models:
                raise UserError(
                    f"{place}.sweep[{index}].models: no model {model!r}; "
                    f"there are {', '.join(preset.models)}"
                )
            for config in sweep.configs():
                try:
                    config.schedule(preset.sizes(model))
                except ValueError as error:
                    raise UserError(f"{place}.sweep[{index}], model {model}: {error}") from None


def unused_models(preset: Preset) -> list[str]:
    """Say of each model that is in no sweep what becomes of it."""
    used = {model for sweep in preset.sweep for model in sweep.models}
    return [
        f"model {name} is in no sweep: it is made, and nothing is sampled from it"
        for name in preset.models
        if not {name, model_and_seed(name)[0]} & used
    ]


def untrained_blocks(preset: Preset) -> list[str]:
    """Say of each schedule with blocks of sizes that training never draws which ones would do."""
    found = {}
    for model in preset.models:
        for config in (*preset.sampling_configs(model), *preset.likelihood_configs(model)):
            warning = untrained_warning(config.schedule(preset.sizes(model)))
            if warning is not None:
                named, _ = model_and_seed(model)
                cut = msgspec.structs.replace(config, cfg=0.0)
                found[named, cut] = f"{named}/{cut.name}: {warning}"
    return list(found.values())


def _check_released(preset: Preset, place: str) -> None:
    """Refuse released models that nobody knows, or with a tokenizer that is not theirs."""
    source = preset.tokenizer.source
    for name, run in preset.models.items():
        if run.released is not None and run.released not in RELEASED_MODELS:
            raise UserError(
                f"{place}.models.{name}.released = {run.released!r}: "
                f"there are {', '.join(RELEASED_MODELS)}"
            )
        if run.released is not None and source != "released":
            raise UserError(
                f"{place}.tokenizer.source = {source!r}: {name} has released weights, which go "
                f"with the released tokenizer alone"
            )


def _check_system(preset: Preset, run: SystemRun, place: str) -> None:
    """Refuse unknown systems, weights that there are not, classes that are not the data's.

    A size may be of no use to this system, as presets share sizes, but must be of some's.
    """
    known = catalog()
    if run.system not in known:
        raise UserError(f"{place}.system = {run.system!r}: there are {', '.join(known)}")
    sizes = {size for system in known.values() for size in system.description}
    for size in run.size:
        if size not in sizes:
            raise UserError(f"{place}.size.{size}: no system has it; there are {', '.join(sizes)}")
    system = run.described
    if run.weights == "released" and system.weights is None:
        raise UserError(
            f"{place}.weights = 'released': of {run.system} there are none ({system.release}); "
            f"`weights: random` runs it, for time alone"
        )
    if system.description["classes"] != preset.data.num_classes:
        raise UserError(
            f"{place}: {run.system} knows {system.description['classes']} classes where "
            f"data.num_classes = {preset.data.num_classes}"
        )
    if system.tokenizer is not None and preset.metrics.decode_precision != "float32":
        raise UserError(f"{place}: {run.system}'s own tokenizer decodes in float32 alone")


def _check_orders(preset: Preset, place: str) -> None:
    """Refuse orders that nobody knows."""
    for name, run in preset.models.items():
        if run.model.order not in ORDER_NAMES:
            raise UserError(
                f"{place}.models.{name}.model.order = {run.model.order!r}: "
                f"there are {', '.join(ORDER_NAMES)}"
            )


def _check_likelihood(preset: Preset, place: str) -> None:
    """Refuse a likelihood of more images than are held out, or none where nothing else is."""
    if preset.likelihood is None:
        for index, sweep in enumerate(preset.sweep):
            if not sweep.samples:
                raise UserError(
                    f"{place}.sweep[{index}].samples = false: nothing would be measured; set "
                    f"{place}.likelihood"
                )
        return
    asked, most = preset.likelihood.images or 1, _held_out_images(preset)
    if most is not None and asked > most:
        raise UserError(f"{place}.likelihood.images = {asked}: there are {most} held-out images")
    if isinstance(preset.data, Digits) and asked > preset.data.held_out_digits:
        raise UserError(
            f"{place}.likelihood.images = {asked}: there are {preset.data.held_out_digits} "
            "held-out digits; more images would show some of them again, as if they were others"
        )


def _check_metrics(preset: Preset, place: str) -> None:
    """Refuse metrics that cannot be computed from what the preset compares."""
    metrics, data = preset.metrics, preset.data
    if (metrics.extractor == "classifier") != (preset.classifier is not None):
        raise UserError(
            f"{place}.metrics.extractor = {metrics.extractor!r}: `classifier` as extractor goes "
            f"with settings under `classifier`, and only it"
        )
    if metrics.extractor == "classifier" and isinstance(data, ImageNet):
        raise UserError(
            f"{place}.metrics.extractor = 'classifier': it is of digits, photographs and folders "
            "of images, not of ImageNet"
        )
    try:
        metrics.check_counts(preset.sampling.images, _reference_images(preset))
    except ValueError as error:
        raise UserError(f"{place}.metrics: {error}") from None


def _held_out_images(preset: Preset) -> int | None:
    """Return how many images no model sees, None where a folder will show it."""
    if isinstance(preset.data, ImageFolder):
        return None
    if isinstance(preset.data, ImageNet):
        return preset.data.validation_images
    return preset.data.reference_images


def _reference_images(preset: Preset) -> int | None:
    """Return how many images samples are compared with, None where a folder will show it."""
    if isinstance(preset.data, ImageFolder) and preset.classifier is not None:
        return None
    if isinstance(preset.data, ImageNet | ImageFolder):
        return preset.metrics.reference_images
    return preset.data.reference_images
