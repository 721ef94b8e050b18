"""A finished model's weights on disk: safetensors, loaded strictly."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pcb.config import Preset
from pcb.errors import UserError
from pcb.model.transformer import Transformer
from pcb.runtime.weights import check_state
from pcb.tokenizer.load import load_tokenizer

WEIGHTS = "model.safetensors"
AVERAGE = "ema.safetensors"


def build_model(preset: Preset, name: str, tokenizer_folder: Path) -> Transformer:
    """Return a preset's model with fresh weights and its tokenizer's codebook, on the CPU."""
    tokenizer = load_tokenizer(tokenizer_folder, preset.tokenizer.autoencoder)
    return Transformer(
        preset.models[name].model, preset.sizes(name), preset.data.num_classes, tokenizer.codebook
    )


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
