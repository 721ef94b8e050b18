"""A model that takes the authors' weights: nothing is trained."""

from pathlib import Path
from typing import Any

import torch

from pcb.config import Preset
from pcb.errors import UserError
from pcb.external.catalog import CATALOG, config_of
from pcb.external.files import external_file, external_sha256
from pcb.external.released import ReleasedConfig, released_weights
from pcb.model.weights import WEIGHTS
from pcb.runtime.weights import save_weights
from pcb.tokenizer.load import load_tokenizer


def import_released(
    preset: Preset, name: str, tokenizer_folder: Path, folder: Path, *, place: str
) -> dict[str, Any]:
    """Check released weights against a model of the preset, and write them as one's own.

    `place` is where params.yaml describes the model: `presets.paper.models.l-2x`.

    Raises UserError naming the file and every setting or tensor that does not fit.
    """
    released = preset.models[name].released
    assert released is not None
    config = ReleasedConfig.read(external_file(preset.files, config_of(released)))
    differences = config.differences(preset, name)
    if differences:
        raise UserError(
            f"{config.path}: another model than {place}: "
            f"{', '.join(differences)}; correct params.yaml, or take the right file"
        )
    checkpoint = external_file(preset.files, released)
    tokenizer = load_tokenizer(tokenizer_folder, preset.tokenizer.autoencoder)
    with torch.device("meta"):
        transformer = config.transformer(tokenizer, preset.data.num_classes)
    weights = released_weights(transformer, tokenizer, checkpoint)
    save_weights(folder / WEIGHTS, weights.state)
    sha256 = external_sha256(preset.files, released)
    return {
        "parameters": weights.parameters,
        "released": released,
        "sha256": sha256,
        "published": sha256 == CATALOG[released].sha256,
        "epoch": weights.epoch,
    }
