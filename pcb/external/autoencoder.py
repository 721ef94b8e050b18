"""The authors' released autoencoder: its YAML and its weights (method section 9).

Checkpoints are pickles and are read by `pcb.runtime.torch_files` alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from pcb.config import Autoencoder
from pcb.config.loader import convert
from pcb.config.read_yaml import read_yaml
from pcb.errors import UserError
from pcb.runtime.file_kind import standin
from pcb.runtime.torch_files import in_float32, read_torch, tensors_of
from pcb.tokenizer.load import tokenizer_from_state
from pcb.tokenizer.quantize import normalize
from pcb.tokenizer.vq import Tokenizer

CODEBOOK = "quantize.embedding.parametrizations.weight.original"
"""The release stores codes before normalization; all other names are this package's."""
T = TypeVar("T")
_BOOKKEEPING = ("cluster_usage_train", "quantize.initialized")
"""Counters of the release's training."""


def load_released_autoencoder(path: Path, settings: Autoencoder) -> Tokenizer:
    """Load a released autoencoder file (key `state_dict`), strictly."""
    tensors = tensors_under(path, "state_dict", "the released autoencoder")
    read = {name: x for name, x in tensors.items() if name not in _BOOKKEEPING}
    state = from_released_state(in_float32(read, str(path)))
    return tokenizer_from_state(state, settings, str(path))


def from_released_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the released autoencoder's state in this package's layout."""
    kept = {name: x for name, x in state.items() if name not in _BOOKKEEPING}
    # A codebook of another form keeps the name that it has in the file, for whoever refuses it.
    if CODEBOOK in kept and kept[CODEBOOK].dim() == 2 and kept[CODEBOOK].is_floating_point():
        kept["codebook"] = normalize(kept.pop(CODEBOOK), dim=1)
    return kept


def read_autoencoder_settings(path: Path) -> Autoencoder:
    """Return the architecture that a released autoencoder's YAML describes, or raise UserError."""
    config = read_config(path)
    keys = ("model", "params", "ddconfig")
    return convert(
        {
            "channels": value_at(config, int, path, *keys, "ch", default=128),
            "channel_multipliers": value_at(
                config, list[int], path, *keys, "ch_mult", default=[1, 1, 2, 2, 4]
            ),
            "residual_blocks": value_at(config, int, path, *keys, "num_res_blocks", default=2),
            "latent_channels": value_at(config, int, path, *keys, "z_channels", default=256),
            "code_dim": value_at(config, int, path, "model", "params", "embed_dim"),
            "codebook_size": value_at(config, int, path, "model", "params", "n_embed"),
        },
        Autoencoder,
        f"{path}: autoencoder",
    )


def value_at(
    config: Mapping[str, Any], kind: type[T], path: Path, *keys: str, default: T | None = None
) -> T:
    """Return what stands under these keys of a released configuration, of this kind.

    Raises UserError naming the key if it is of another kind, or not there and without a default.
    """
    value: Any = config
    for depth, key in enumerate(keys, start=1):
        if not isinstance(value, Mapping):
            above = ".".join(keys[: depth - 1])
            raise UserError(f"{path}: {above} = {value!r}: expected a mapping")
        if key not in value:
            if default is not None and depth == len(keys):
                return default
            raise UserError(f"{path}: no {'.'.join(keys)}; is it a released model's?")
        value = value[key]
    return convert(value, kind, f"{path}: {'.'.join(keys)} = {value!r}")


def tensors_under(path: Path, key: str, what: str) -> dict[str, Tensor]:
    """Return the tensors under a checkpoint's key. Raises UserError asking whether it is `what`."""
    return tensors_in(read_checkpoint(path), key, path, what)


def tensors_in(content: Mapping[str, Any], key: str, path: Path, what: str) -> dict[str, Tensor]:
    """Return the tensors under a key of what `path` holds. Raises as `tensors_under` does."""
    tensors = content.get(key)
    if not isinstance(tensors, Mapping):
        raise UserError(f"{path}: no `{key}` in this file; is it {what}?")
    return tensors_of(tensors, str(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, of tensors and plain values alone. Raises UserError naming the file."""
    content = read_torch(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dict of tensors, found {type(content).__name__}")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """Read a released configuration, a mapping with `model`, or raise UserError."""
    what = standin(path)
    if what is not None and what != "text in JSON":
        raise UserError(f"{path}: {what}, not a configuration; fetch it again")
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(f"{path}: expected a mapping with `model`")
    return content
