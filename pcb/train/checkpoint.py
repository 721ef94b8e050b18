"""The state of a training run on disk, and a finished model's weights.

The checkpoint is a temporary of its stage: one file, replaced by rename, gone when the stage is
complete. Weights are safetensors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pcb.errors import UserError
from pcb.model.transformer import Transformer
from pcb.stage import atomic
from pcb.tokenizer.load import check_state

CHECKPOINT = ".checkpoint.pt"
WEIGHTS = "model.safetensors"
AVERAGE = "ema.safetensors"


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint."""
    with atomic(folder / CHECKPOINT) as path:
        torch.save(dict(state), path)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the folder's checkpoint, or None if training has not got so far."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert isinstance(state, dict)
    return state


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary)


def load_weights(folder: Path, model: Transformer) -> None:
    """Load a finished model's weights, the moving average where there is one, strictly.

    Raises UserError naming the file and the tensors that do not fit, as those of another ratio do
    not, or if they were trained with another tokenizer.
    """
    path = folder / AVERAGE
    path = path if path.exists() else folder / WEIGHTS
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; train the model first") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable weights ({error}); train the model again") from None
    check_state(model, state, str(path))
    if not torch.equal(state["codebook_VC"], model.codebook_VC.cpu()):
        raise UserError(f"{path}: trained with another codebook than the tokenizer's")
    model.load_state_dict(state)
