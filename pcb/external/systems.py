"""Another system of Table 1 as a model of a preset: its weights and tokenizer, released or random.

Nothing is trained. A folder gets both, so that sampling and decoding need no external file.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pcb.config import Preset, SystemRun
from pcb.config.files import system_file, system_tokenizer_file
from pcb.external.catalog import CATALOG
from pcb.external.files import external_file, external_sha256
from pcb.external.llamagen import load_llamagen
from pcb.runtime.weights import save_weights
from pcb.systems.kinds import KINDS
from pcb.systems.running import (
    MODEL,
    TOKENIZER,
    autoencoder_of,
    empty_tokenizer,
    var_tokenizer_config,
)
from pcb.systems.var_tokenizer import load_var_tokenizer


def import_system(preset: Preset, name: str, folder: Path) -> dict[str, Any]:
    """Write a system's weights and its tokenizer's into a folder; return what is known of them.

    Raises UserError naming a file that is not there, and tensors that do not fit.
    """
    run = preset.systems[name]
    model, tokenizer = _random(run) if run.weights == "random" else _released(preset, run)
    masks = ("attn_bias_for_masking",)
    save_weights(folder / MODEL, model.state_dict(), masks=masks)
    save_weights(folder / TOKENIZER, tokenizer.state_dict())
    found = {
        "parameters": sum(x.numel() for x in model.parameters()),
        "system": run.system,
        "weights": run.weights,
    }
    if run.weights == "random":
        return found
    sha256 = external_sha256(preset.files, system_file(run.system))
    published = CATALOG[system_file(run.system)].sha256
    return {**found, "sha256": sha256, "published": published and sha256 == published}


def _released(preset: Preset, run: SystemRun) -> tuple[nn.Module, nn.Module]:
    system, files = run.described, preset.files
    path = external_file(files, system_file(run.system))
    model = KINDS[system.kind].load(system.description, run.system, path)
    if system.tokenizer is None:
        return model, load_llamagen(external_file(files, "llamagen"), autoencoder_of(run))
    own = external_file(files, system_tokenizer_file(run.system))
    return model, load_var_tokenizer(own, var_tokenizer_config(run))


def _random(run: SystemRun) -> tuple[nn.Module, nn.Module]:
    system = run.described
    torch.manual_seed(run.seed)
    return KINDS[system.kind].build(system.description, run.system), empty_tokenizer(run)
