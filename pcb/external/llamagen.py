"""LlamaGen's VQ-16, `vq_ds16_c2i.pt`, by its own tensor names (method sections 3 and 9).

Encoder, decoder and the 1x1 convolutions have this package's names; only the codebook's differs.
"""

from pathlib import Path

import msgspec
import torch
from torch import Tensor

from pcb.config import Autoencoder
from pcb.external.autoencoder import tensors_under
from pcb.runtime.torch_files import in_float32
from pcb.runtime.weights import check_tensors
from pcb.tokenizer.load import tokenizer_from_state
from pcb.tokenizer.quantize import normalize
from pcb.tokenizer.vq import Tokenizer

CODES = 16384
"""Codes of LlamaGen's own codebook."""
_CODEBOOK = "quantize.embedding.weight"
_USAGE = "quantize.codebook_used"
"""Codes that training saw last; the file may have it or not, and nothing reads it."""


def load_llamagen(path: Path, settings: Autoencoder) -> Tokenizer:
    """Load LlamaGen's tokenizer with its own 16,384 codes, strictly.

    `settings` give the architecture; their `codebook_size` is that of the codebook to come, not of
    this one. Returned on the CPU, in evaluation mode, without gradients.

    Raises UserError naming the file and LlamaGen's names of the tensors that do not fit.
    """
    tensors = in_float32(tensors_under(path, "model", "LlamaGen's VQ tokenizer"), str(path))
    tensors.pop(_USAGE, None)
    own = llamagen_settings(settings)
    check_tensors(llamagen_tensors(own), tensors, str(path))
    tensors["codebook"] = normalize(tensors.pop(_CODEBOOK), dim=1)
    return tokenizer_from_state(tensors, own, str(path))


def llamagen_settings(settings: Autoencoder) -> Autoencoder:
    """Return an architecture with LlamaGen's own number of codes."""
    return msgspec.structs.replace(settings, codebook_size=CODES)


def llamagen_tensors(settings: Autoencoder) -> dict[str, Tensor]:
    """Return the tensors that LlamaGen's file holds for an architecture, without their values."""
    with torch.device("meta"):
        tensors = Tokenizer(settings).state_dict()
    return {_CODEBOOK if name == "codebook" else name: x for name, x in tensors.items()}
