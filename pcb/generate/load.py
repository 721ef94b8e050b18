"""`pcb.load`: from a folder to a model that makes images."""

from os import PathLike
from pathlib import Path
from typing import Literal

from pcb.config import Compute
from pcb.config.loader import active_preset, load_params, parse_preset
from pcb.config.paths import PARAMS
from pcb.errors import UserError
from pcb.external.released import CONFIG, load_released
from pcb.generate.finished import Place, load_finished
from pcb.generate.load_system import load_finished_system, load_recorded
from pcb.generate.model import ImageModel
from pcb.generate.names import class_names
from pcb.generate.pyramid import PyramidModel
from pcb.generate.results import finished_folder
from pcb.pipeline.manifest import COMPLETE, read_manifest
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.device import pick_device
from pcb.systems.parity.recording import CONFIG as DESCRIPTION
from pcb.tokenizer.vq import Tokenizer

_CPU_BATCH, _GPU_BATCH = 16, 64


def load(
    source: str | PathLike[str],
    *,
    preset: str | None = None,
    model: str | None = None,
    tokenizer: str | PathLike[str] | Tokenizer | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
) -> ImageModel:
    """Return a model that takes classes and gives images.

    source: one of these folders.

    - a project (it holds params.yaml): its `model` of a `preset`; without names the first finished
      model of the preset that params.yaml names
    - a finished model, `results/artifacts/PRESET/train/MODEL`
    - a released model (it holds config.yaml and checkpoint-last.pth)
    - a system of the table (config.json and weights.safetensors), as `pcb parity` reads it

    tokenizer: what decodes the codes, where it is not in its usual place: the folder of a finished
    tokenizer, LlamaGen's file for a system of the table, or a `Tokenizer`. device: `auto` takes a
    GPU where there is one. precision: that of the transformer; images are decoded in float32.

    Raises UserError naming the file that is missing, damaged, or of another model or tokenizer.
    """
    folder = Path(source)
    decoding = tokenizer if isinstance(tokenizer, Tokenizer | None) else Path(tokenizer)
    place = place_of(device, precision)
    if (folder / PARAMS).is_file():
        params = load_params(folder / PARAMS)
        name = preset or active_preset(params)
        pipeline = Pipeline(name, parse_preset(params, name, str(folder / PARAMS)))
        return load_folder(finished_folder(pipeline, folder, model), decoding, place)
    if preset is not None or model is not None:
        raise UserError(f"{folder}: no {PARAMS} in it, so that it has no presets and models")
    return load_folder(folder, decoding, place)


def load_folder(folder: Path, tokenizer: Path | Tokenizer | None, place: Place) -> ImageModel:
    """Load the folder of one model, of whichever kind it is. Raises UserError as `load`."""
    manifest = read_manifest(folder / COMPLETE)
    if manifest is not None and manifest.stage == "train" and "system" in manifest.settings:
        if tokenizer is not None:
            raise UserError(f"{folder}: holds its tokenizer itself; give no other")
        return load_finished_system(folder, manifest, place)
    if manifest is not None:
        return load_finished(folder, tokenizer, place)
    if (folder / DESCRIPTION).is_file():
        return load_recorded(folder, tokenizer, place)
    if (folder / CONFIG).is_file():
        if tokenizer is not None:
            raise UserError(f"{folder / CONFIG}: names its tokenizer itself; give no other")
        return _released(folder, place)
    what = "holds" if folder.is_dir() else "no such folder; a model's holds"
    either = "neither" if folder.is_dir() else "either"
    raise UserError(
        f"{folder}: {what} {either} {COMPLETE} (a finished model), {CONFIG} (a released one) "
        f"{'nor' if either == 'neither' else 'or'} {DESCRIPTION} (a system of the table)"
    )


def place_of(device: Literal["auto", "cpu", "cuda"], precision: str) -> Place:
    """Return where a model computes. Raises UserError for a GPU that cannot be used."""
    found = pick_device(Compute(device=device))
    batch = _CPU_BATCH if found.type == "cpu" else _GPU_BATCH
    return Place(device=found, precision=precision, batch=batch)


def _released(folder: Path, place: Place) -> PyramidModel:
    released = load_released(folder)
    classes = released.transformer.num_classes
    return PyramidModel(
        released.transformer,
        released.tokenizer,
        name=folder.resolve().name,
        class_names=class_names(None, classes),
        device=place.device,
        precision=place.precision,
        batch=place.batch,
    )
