"""Reading a tokenizer's weights, strictly: a tensor that is missing or misshapen is an error."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.settings import Autoencoder
from pcb.tokenizer.vq import Tokenizer

TOKENIZER_FILE = "tokenizer.safetensors"
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
    check_tensors(module.state_dict(), state, source)


def check_tensors(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError unless the state has exactly the expected names and shapes."""
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
