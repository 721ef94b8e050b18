"""Settings that are each right and do not go together. No torch."""

from pcb.config import Digits, Preset, SystemRun
from pcb.config.files import RELEASED_MODELS
from pcb.errors import UserError
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
    for index, sweep in enumerate(preset.sweep):
        for model in sweep.models:
            if model not in preset.models:
                raise UserError(
                    f"{place}.sweep[{index}].models: no model {model!r}; "
                    f"there are {', '.join(preset.models)}"
                )
            for point in sweep.points():
                try:
                    point.schedule(preset.sizes(model))
                except ValueError as error:
                    raise UserError(f"{place}.sweep[{index}], model {model}: {error}") from None


def unused_models(preset: Preset) -> list[str]:
    """Say of each model that is in no sweep what becomes of it."""
    used = {model for sweep in preset.sweep for model in sweep.models}
    return [
        f"model {name} is in no sweep: it is made, and nothing is sampled from it"
        for name in preset.models
        if name not in used
    ]


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


def _check_metrics(preset: Preset, place: str) -> None:
    """Refuse metrics that cannot be computed from what the preset compares."""
    metrics, data = preset.metrics, preset.data
    if (metrics.extractor == "classifier") != (preset.classifier is not None):
        raise UserError(
            f"{place}.metrics.extractor = {metrics.extractor!r}: `classifier` as extractor goes "
            f"with settings under `classifier`, and only it"
        )
    if metrics.extractor == "classifier" and not isinstance(data, Digits):
        raise UserError(f"{place}.metrics.extractor = 'classifier': it knows digits alone")
    reference = data.reference_images if isinstance(data, Digits) else metrics.reference_images
    try:
        metrics.check_counts(preset.sampling.images, reference)
    except ValueError as error:
        raise UserError(f"{place}.metrics: {error}") from None
