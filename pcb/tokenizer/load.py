"""Reading a tokenizer's weights, strictly: a tensor that is missing or misshapen is an error."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pcb.config import Autoencoder
from pcb.errors import UserError
from pcb.runtime.weights import check_state
from pcb.tokenizer.vq import Tokenizer

TOKENIZER_FILE = "tokenizer.safetensors"


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
