"""Random weights and codes in place of real ones, on which time does not depend."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Precision
from pcb.config import Autoencoder, Preset
from pcb.data.arrays import save_array
from pcb.model.transformer import Transformer
from pcb.runtime.device import DTYPES
from pcb.sample.uniforms import labels, uniforms
from pcb.tokenizer.cache import LABELS, TokenCache, token_shard
from pcb.tokenizer.quantize import normalise
from pcb.tokenizer.vq import Tokenizer

_SHARDS = 4


def random_model(preset: Preset, name: str, sizes: Sequence[int]) -> Transformer:
    """Return one of a preset's models with random weights, the head's too, on the CPU."""
    settings, codes = preset.models[name].model, preset.tokenizer.autoencoder
    torch.manual_seed(0)
    codebook = normalise(torch.randn(codes.codebook_size, codes.code_dim), dim=-1)
    model = Transformer(settings, sizes, preset.data.num_classes, codebook)
    torch.nn.init.normal_(model.head.weight, std=settings.width**-0.5)
    return model


def what_is_drawn(model: Transformer, images: int) -> tuple[Tensor, Tensor]:
    """Return classes (B,) and random numbers (B, T) of the first images, on a model's device."""
    chosen, device = np.arange(images), model.codebook_VC.device
    classes_B = torch.from_numpy(labels(model.num_classes, chosen)).to(device)
    return classes_B, torch.from_numpy(uniforms(0, chosen, model.sizes)).to(device)


def random_tokenizer(
    settings: Autoencoder, device: torch.device, precision: Precision = "float32"
) -> Tokenizer:
    """Return a tokenizer with random weights on a device, the same ones each time.

    `precision` is its decoder's.
    """
    torch.manual_seed(0)
    tokenizer = Tokenizer(settings).to(device).eval().requires_grad_(False)
    if precision != "float32":
        tokenizer.round_decoder_to(DTYPES[precision])
    return tokenizer


class RandomCache(TokenCache):
    """A token cache of random codes, on disk for as long as this object is there."""

    def __init__(self, sizes: Sequence[int], *, images: int, crops: int, codes: int) -> None:
        """Write codes from 0 to `codes` - 1 of so many images."""
        self._temporary = tempfile.TemporaryDirectory(prefix="pcb-bench-")
        root, random = Path(self._temporary.name), np.random.default_rng(0)
        save_array(root / LABELS, np.zeros(images, np.int64))
        for size in sizes:
            for shard in range(_SHARDS):
                shape = (images // _SHARDS, crops, size, size)
                save_array(
                    token_shard(root, size, shard), random.integers(0, codes, shape, np.uint16)
                )
        super().__init__(root, sizes)
