"""Loading of a system of the table: from a recorded folder, the catalog, or a finished result."""

from pathlib import Path
from typing import Any

from torch import nn

from pcb.config import Autoencoder, Files, SystemRun
from pcb.config.convert import convert
from pcb.errors import UserError
from pcb.external.files import external_file
from pcb.external.llamagen import load_llamagen
from pcb.generate.finished import Place, load_finished_tokenizer
from pcb.generate.names import class_names
from pcb.generate.system import SystemModel
from pcb.pipeline.manifest import COMPLETE, Manifest
from pcb.published.system import System
from pcb.systems.kinds import KINDS, filter_of
from pcb.systems.parity.recording import CONFIG, WEIGHTS, read_recording
from pcb.systems.parity.var import TOKENIZER_WEIGHTS
from pcb.systems.running import MODEL, own_tokenizer
from pcb.systems.var_quantizer import VARTokenizerConfig
from pcb.systems.var_tokenizer import VARTokenizer, load_var_tokenizer
from pcb.systems.weights import read_config
from pcb.tokenizer.vq import Tokenizer

LLAMAGEN_FILE = "vq_ds16_c2i.pt"
"""LlamaGen's tokenizer, which all but VAR share."""


def load_recorded(folder: Path, tokenizer: Path | Tokenizer | None, place: Place) -> SystemModel:
    """Load a folder in the layout that `pcb parity` reads.

    VAR's tokenizer stands in it; the others' is LlamaGen's file, in it or named. Raises UserError
    for what is missing or does not fit.
    """
    recording = read_recording(folder)
    system = recording.system
    if system not in KINDS:
        raise UserError(f"{folder / CONFIG}: peer {system!r} is none of {', '.join(KINDS)}")
    description = dict(recording.part("tiny"))
    source = f"{folder / CONFIG}: tiny"
    decoding: Tokenizer | VARTokenizer
    if system == "VAR":
        of_tokenizer = dict(recording.part("tokenizer"))
        shared = {
            "scales": description.get("scales"),
            "code_width": of_tokenizer.get("code_width"),
        }
        description |= shared
        config = read_config(
            of_tokenizer | shared, VARTokenizerConfig, f"{folder / CONFIG}: tokenizer"
        )
        decoding = load_var_tokenizer(folder / TOKENIZER_WEIGHTS, config)
    else:
        decoding = load_system_tokenizer(folder, tokenizer)
    model: nn.Module = KINDS[system].load(description, source, folder / WEIGHTS)
    return _placed(system, model, decoding, system, place)


def load_cataloged(
    system: System, files: Files, tokenizer: Path | Tokenizer | None, place: Place
) -> SystemModel:
    """Load a system as it was published: its file of weights, guidance, steps and filter.

    Files stand below `files.folder`. Raises UserError for what is not there.
    """
    folder = Path(files.folder).expanduser()
    if system.weights is None:
        raise UserError(f"{system.name}: has no file of weights: {system.release}")
    weights = folder / system.weights.path
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; it is {system.weights.url}")
    decoding: Tokenizer | VARTokenizer
    if system.tokenizer is not None:
        decoding = load_var_tokenizer(folder / system.tokenizer.path, VARTokenizerConfig())
    else:
        path = external_file(files, "llamagen") if tokenizer is None else tokenizer
        decoding = load_system_tokenizer(folder, path)
    model: nn.Module = KINDS[system.kind].load(system.description, system.name, weights)
    return _as_published(system, model, decoding, system.name, place)


def load_finished_system(folder: Path, manifest: Manifest, place: Place) -> SystemModel:
    """Load a system that is a preset's model, from `results/artifacts/PRESET/train/MODEL`.

    Its tokenizer stands beside its weights. Guidance and filter are the published ones; steps too,
    which a preset may have made other ones: then they are to be given.
    """
    run = _run_of(manifest.settings, f"{folder / COMPLETE}: settings")
    system = run.described
    model: nn.Module = KINDS[system.kind].load(system.description, run.system, folder / MODEL)
    tokenizer = own_tokenizer(run, folder)
    return _as_published(system, model, tokenizer, manifest.variant, place)


def _as_published(
    system: System, model: nn.Module, tokenizer: Tokenizer | VARTokenizer, name: str, place: Place
) -> SystemModel:
    """Return a system with its published guidance, steps and filter."""
    return _placed(
        system.kind,
        model,
        tokenizer,
        name,
        place,
        guidance=system.guidance,
        steps=system.schedule_steps,
        filter=filter_of(system),
    )


def _placed(
    kind: str,
    model: nn.Module,
    tokenizer: Tokenizer | VARTokenizer,
    name: str,
    place: Place,
    **published: Any,
) -> SystemModel:
    """Return a system where it is to run. published: guidance, steps and filter, where known."""
    classes = number_of_classes(model)
    return SystemModel(
        KINDS[kind],
        model,
        tokenizer,
        name=name,
        num_classes=classes,
        class_names=class_names(None, classes),
        device=place.device,
        precision=place.precision,
        batch=place.batch,
        **published,
    )


def _run_of(settings: Any, place: str) -> SystemRun:
    """Return a run of the system that a manifest's settings describe."""
    random = settings.get("weights") == "random"
    other = {"size": settings["description"], "tokenizer": settings.get("tokenizer")}
    tree = {"system": settings["system"], "weights": settings["weights"]}
    return convert(tree | (other if random else {}), SystemRun, place)


def load_system_tokenizer(folder: Path, tokenizer: Path | Tokenizer | None) -> Tokenizer:
    """Return what decodes a system's codes: a file of LlamaGen's, or a finished tokenizer."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    path = folder / LLAMAGEN_FILE if tokenizer is None else tokenizer
    if path.is_dir():
        return load_finished_tokenizer(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file, which decodes the codes of {folder.name}; name LlamaGen's "
            "tokenizer (`pcb fetch llamagen` gets it)"
        )
    return load_llamagen(path, Autoencoder())


def number_of_classes(model: Any) -> int:
    """Return how many classes a system knows, without the null class."""
    config = model.config if hasattr(model, "config") else model.size
    classes: int = config.classes
    return classes
