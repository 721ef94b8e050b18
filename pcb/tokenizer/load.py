"""Reading a tokenizer's weights, strictly: a tensor that is missing or misshapen is an error."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.settings import Autoencoder
from pcb.tokenizer.quantize import normalise
from pcb.tokenizer.vq import Tokenizer

TOKENIZER_FILE = "tokenizer.safetensors"
_RELEASED_CODEBOOK = "quantize.embedding.parametrizations.weight.original"
_RELEASED_BOOKKEEPING = ("cluster_usage_train", "quantize.initialized")
_SHOWN = 3


def load_tokenizer(folder: Path, settings: Autoencoder) -> Tokenizer:
    """Read the tokenizer of an artifact folder, in evaluation mode, without gradients.

    Raises UserError naming the file and the tensors that do not fit the settings.
    """
    path = folder / TOKENIZER_FILE
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; build the tokenizer first") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: unreadable ({error}); delete it and run again") from None
    return tokenizer_from_state(state, settings, str(path))


def tokenizer_from_state(
    state: Mapping[str, Tensor], settings: Autoencoder, source: str
) -> Tokenizer:
    """Return a tokenizer with these weights, in evaluation mode; `source` names them in errors."""
    with torch.device("meta"):
        tokenizer = Tokenizer(settings)
    check_state(tokenizer, state, source)
    tokenizer.load_state_dict(dict(state), strict=True, assign=True)
    return tokenizer.eval().requires_grad_(False)


def check_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError unless the state has exactly the module's names and shapes."""
    expected = module.state_dict()
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": sorted(state.keys() - expected.keys()),
        "of another shape": [
            f"{name} {list(state[name].shape)} for {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    parts = []
    for fault, names in faults.items():
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{len(names)} {fault}: {', '.join(names[:_SHOWN])}{more}")
    if parts:
        raise UserError(f"{source}: tensors do not fit the settings; {'; '.join(parts)}")


def from_released_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the released autoencoder's state in this package's layout.

    Names are the same but for the codebook, which the release stores before normalisation, and
    for two training counters, which are dropped.
    """
    kept = {name: x for name, x in state.items() if name not in _RELEASED_BOOKKEEPING}
    if _RELEASED_CODEBOOK in kept:
        kept["codebook"] = normalise(kept.pop(_RELEASED_CODEBOOK), dim=1)
    return kept
