"""The authors' released autoencoder: its YAML and its weights (method section 9).

A checkpoint is a pickle and is read with ``weights_only=True`` and an allow-list, never otherwise.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from pcb.errors import UserError
from pcb.config.loader import convert
from pcb.config import Autoencoder
from pcb.tokenizer.load import tokenizer_from_state
from pcb.tokenizer.quantize import normalise
from pcb.tokenizer.vq import Tokenizer

CODEBOOK = "quantize.embedding.parametrizations.weight.original"
"""The release stores codes before normalisation; all other names are this package's."""
_BOOKKEEPING = ("cluster_usage_train", "quantize.initialized")
"""Counters of the release's training."""


def load_released_autoencoder(path: Path, settings: Autoencoder) -> Tokenizer:
    """Load a released autoencoder file (key `state_dict`), strictly."""
    state = from_released_state(tensors_of(path, "state_dict", "the released autoencoder"))
    return tokenizer_from_state(state, settings, str(path))


def from_released_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the released autoencoder's state in this package's layout."""
    kept = {name: x for name, x in state.items() if name not in _BOOKKEEPING}
    if CODEBOOK in kept:
        kept["codebook"] = normalise(kept.pop(CODEBOOK), dim=1)
    return kept


def released_autoencoder_settings(config: Mapping[str, Any]) -> Autoencoder:
    """Return the architecture that a released autoencoder's YAML describes."""
    params = config["model"]["params"]
    ddconfig = params["ddconfig"]
    return convert(
        {
            "channels": ddconfig.get("ch", 128),
            "channel_multipliers": ddconfig.get("ch_mult", [1, 1, 2, 2, 4]),
            "residual_blocks": ddconfig.get("num_res_blocks", 2),
            "latent_channels": ddconfig.get("z_channels", 256),
            "code_dim": params["embed_dim"],
            "codebook_size": params["n_embed"],
        },
        Autoencoder,
        "autoencoder config",
    )


def tensors_of(path: Path, key: str, what: str) -> Mapping[str, Tensor]:
    """Return the tensors under a checkpoint's key. Raises UserError asking whether it is `what`."""
    return tensors_in(read_checkpoint(path), key, path, what)


def tensors_in(content: Mapping[str, Any], key: str, path: Path, what: str) -> Mapping[str, Tensor]:
    """Return the tensors under a key of what `path` holds. Raises as `tensors_of` does."""
    tensors = content.get(key)
    if not isinstance(tensors, Mapping):
        raise UserError(f"{path}: no `{key}` in this file; is it {what}?")
    return tensors


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's pickle, allowing tensors and argparse.Namespace alone."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch raises many kinds for truncated or foreign files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dict of tensors, found {type(content).__name__}")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a released configuration, a mapping with `model`, or raise UserError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(f"{path}: expected a mapping with `model`")
    return content
