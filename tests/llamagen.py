"""A file of the form of LlamaGen's `vq_ds16_c2i.pt`, with random weights."""

from pathlib import Path

import torch

from pcb.config import Autoencoder
from pcb.tokenizer.vq import Tokenizer


def write_llamagen(path: Path, settings: Autoencoder) -> Path:
    """Write weights of an architecture by LlamaGen's names, and return the path."""
    torch.manual_seed(0)
    tensors = Tokenizer(settings).state_dict()
    del tensors["codebook"]
    tensors["quantize.embedding.weight"] = 3 * torch.randn(16384, settings.code_dim)
    tensors["quantize.codebook_used"] = torch.zeros(65536)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": tensors}, path)
    return path
