"""A finished model of a preset, loaded from its folder by the manifests beside it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from pcb.config import Autoencoder, Model
from pcb.config.convert import convert
from pcb.config.paths import ARTIFACTS, MANIFESTS
from pcb.data.class_names import read_class_names
from pcb.errors import UserError
from pcb.generate.names import class_names
from pcb.generate.pyramid import PyramidModel
from pcb.model.transformer import Transformer
from pcb.model.weights import AVERAGE, WEIGHTS, load_weights
from pcb.order.schedule import num_tokens
from pcb.pipeline.manifest import COMPLETE, Manifest, read_manifest
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.vq import Tokenizer

_POSITIONS, _CLASSES = "position_embedding.weight", "class_embedding.weight"
_LARGEST_GRID = 256
"""Tokens per side beyond which no model is looked for."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a model computes, and how."""

    device: torch.device
    precision: str
    batch: int
    """Images sampled at a time."""


def load_finished(folder: Path, tokenizer: Path | Tokenizer | None, place: Place) -> PyramidModel:
    """Load `results/artifacts/PRESET/train/MODEL`, or a copy of it.

    Its tokenizer is that of the same preset, `../../tokenizer/all`, unless another place is named.
    Raises UserError for what is missing, or fits neither manifest nor tokenizer.
    """
    manifest = _manifest(folder, "train")
    settings = convert(
        manifest.settings.get("model"), Model, f"{folder / COMPLETE}: settings.model"
    )
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = load_finished_tokenizer(
            folder.parent.parent / "tokenizer" / "all" if tokenizer is None else tokenizer
        )
    tokens, classes = _rows(folder)
    transformer = Transformer(
        settings, _sizes(settings, tokens, folder), classes, tokenizer.codebook
    )
    load_weights(folder, transformer)
    return PyramidModel(
        transformer,
        tokenizer,
        name=manifest.variant,
        class_names=_class_names(folder.parent.parent, manifest.preset, classes),
        device=place.device,
        precision=place.precision,
        batch=place.batch,
    )


def load_finished_tokenizer(folder: Path) -> Tokenizer:
    """Load `results/artifacts/PRESET/tokenizer/all`, or a copy of it, or raise UserError."""
    manifest = _manifest(folder, "tokenizer")
    place = f"{folder / COMPLETE}: settings.autoencoder"
    return load_tokenizer(folder, convert(manifest.settings.get("autoencoder"), Autoencoder, place))


def _manifest(folder: Path, stage: str) -> Manifest:
    manifest = read_manifest(folder / COMPLETE)
    if manifest is None:
        raise UserError(
            f"{folder}: no {COMPLETE} in it, which a finished `{stage}` has; finish it with "
            "`make reproduce`, or name another folder"
        )
    if manifest.stage != stage:
        raise UserError(f"{folder}: holds a result of `{manifest.stage}`, not of `{stage}`")
    return manifest


def _rows(folder: Path) -> tuple[int, int]:
    """Return how many tokens and classes the weights know."""
    path = folder / AVERAGE
    path = path if path.exists() else folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in (_POSITIONS, _CLASSES)]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; fetch it with `dvc pull`, or train again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable weights of a model ({error})") from None
    # The row behind the last class stands for none.
    return shapes[0][0], shapes[1][0] - 1


def _sizes(settings: Model, tokens: int, folder: Path) -> tuple[int, ...]:
    """Return the sides of the scales, which have this many tokens together."""
    # A finer grid has more tokens, so that there is at most one.
    for grid in range(1, _LARGEST_GRID + 1):
        sizes = settings.sizes(grid)
        if num_tokens(sizes) == tokens:
            return sizes
    raise UserError(
        f"{folder}: weights of {tokens} tokens, which no grid gives at scale_ratio "
        f"{settings.scale_ratio}"
    )


def _class_names(results: Path, preset: str, classes: int) -> tuple[str, ...] | None:
    """Return the names of a preset's classes; `results` is its folder of artifacts."""
    data = results / "data" / "all"
    manifest = read_manifest(data / COMPLETE)
    if manifest is None and results.parent.name == ARTIFACTS.name:
        # The data stay where they were made; what is said of them is in git.
        root = results.parent.parent / MANIFESTS.name
        manifest = read_manifest(root / preset / "data" / "all.json")
    kind = None if manifest is None else manifest.settings.get("kind")
    found = class_names(kind, classes) or read_class_names(data)
    return found if found is not None and len(found) == classes else None
