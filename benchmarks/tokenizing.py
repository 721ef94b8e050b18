"""Parts of the tokenizer: images to the codes of a pyramid, and codes to images."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.bounds import decoding_phases, encoding_phases
from benchmarks.case import FAST, Case, Part, Precision, Scope, suffix
from benchmarks.standins import random_tokenizer
from pcb.config import Autoencoder
from pcb.config.loader import load_preset
from pcb.data.arrays import to_uint8
from pcb.tokenizer.vq import Tokenizer

_MINI, _PAPER = "mini", "paper"
_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")


def parts(scope: Scope) -> Iterator[Part]:
    """Yield encoding and decoding, of the miniature's size, and of the paper's where it fits."""
    if scope == "full":
        for batch in (64, 256):
            yield _encoding(_PAPER, batch)
            for precision in _PRECISIONS:
                yield _decoding(_PAPER, batch, precision)
    elif scope == "short":
        yield _encoding(_MINI, 16)
        yield _decoding(_MINI, 16)
        yield _encoding(_PAPER, 1)
        yield _decoding(_PAPER, 1)
        yield _decoding(_PAPER, 1, "bfloat16")
    else:
        yield _decoding(_MINI, 2)
        yield _decoding(_MINI, 2, "bfloat16")


def _encoding(preset: str, batch: int) -> Part:
    return Part(
        name=f"tokenizer/encode/{preset}/b{batch}",
        item="images",
        make=partial(_encode, preset, batch),
        kind="encoding",
    )


def _decoding(preset: str, batch: int, precision: Precision = "float32") -> Part:
    return Part(
        name=f"tokenizer/decode/{preset}/b{batch}{suffix(precision)}",
        item="images",
        make=partial(_decode, preset, batch, precision),
        precision=precision,
        kind="decoding",
    )


def _encode(preset: str, batch: int, device: torch.device) -> Case:
    """Encode images at all scales of a 2x model."""
    settings, sizes = _autoencoder(preset)
    tokenizer = random_tokenizer(settings, device)
    pixels = sizes[-1] * settings.stride
    images = torch.rand(batch, 3, pixels, pixels, device=device) * 2 - 1
    phases = encoding_phases(settings, sizes, batch)

    @torch.inference_mode()
    def encode() -> object:
        return tokenizer.codes(images, sizes)

    return Case(
        variants={FAST: encode},
        items=batch,
        phases=tuple(phases),
        settings={"scales": list(sizes)},
    )


def _decode(preset: str, batch: int, precision: Precision, device: torch.device) -> Case:
    """Decode the finest codes to pixels; 16 bits have float32 beside them."""
    settings, sizes = _autoencoder(preset)
    size = sizes[-1]
    codes = torch.randint(settings.codebook_size, (batch, size, size), device=device)
    exact = random_tokenizer(settings, device)
    variants = {FAST: exact}
    if precision != "float32":
        variants = {FAST: random_tokenizer(settings, device, precision), "float32": exact}
    phases = decoding_phases(settings, size, precision, batch)

    @torch.inference_mode()
    def pixels(tokenizer: Tokenizer) -> Tensor:
        return to_uint8(tokenizer.decode(codes))

    def differences() -> dict[str, dict[str, float]]:
        shown = pixels(variants[FAST]).int()
        apart = {name: (pixels(other).int() - shown).abs() for name, other in variants.items()}
        return {
            name: {"grey levels": float(levels.double().mean()), "at most": float(levels.max())}
            for name, levels in apart.items()
        }

    return Case(
        variants={name: partial(pixels, tokenizer) for name, tokenizer in variants.items()},
        items=batch,
        phases=tuple(phases),
        differences=differences,
    )


def _autoencoder(preset: str) -> tuple[Autoencoder, Sequence[int]]:
    """Return a preset's autoencoder, and the scales of its first model of ratio 2."""
    settings = load_preset(preset)
    name = {_MINI: "ratio2", _PAPER: "l-2x"}[preset]
    return settings.tokenizer.autoencoder, settings.sizes(name)
