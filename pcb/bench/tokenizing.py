"""Parts of the tokenizer: images to the codes of a pyramid, and codes to images."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from pcb import flops
from pcb.bench.bounds import network_phase
from pcb.bench.case import FAST, Case, Part, Precision, Scope
from pcb.device import DTYPES
from pcb.params import load_preset
from pcb.settings import Autoencoder
from pcb.tokenizer.vq import Tokenizer

_MINI, _PAPER = "mini", "paper"


def parts(scope: Scope) -> Iterator[Part]:
    """Yield encoding and decoding, of the miniature's size, and of the paper's where it fits."""
    if scope == "full":
        for batch in (64, 256):
            yield _encoding(_PAPER, batch)
            yield _decoding(_PAPER, batch)
    elif scope == "short":
        yield _encoding(_MINI, 16)
        yield _decoding(_MINI, 16)
        yield _decoding(_PAPER, 1)
    else:
        yield _decoding(_MINI, 2)


def _encoding(preset: str, batch: int, precision: Precision = "float32") -> Part:
    return Part(
        name=f"tokenizer/encode/{preset}/b{batch}",
        item="images",
        make=partial(_encode, preset, batch),
        precision=precision,
        kind="encoding",
    )


def _decoding(preset: str, batch: int, precision: Precision = "float32") -> Part:
    return Part(
        name=f"tokenizer/decode/{preset}/b{batch}",
        item="images",
        make=partial(_decode, preset, batch, precision),
        precision=precision,
        kind="decoding",
    )


def _encode(preset: str, batch: int, device: torch.device) -> Case:
    """Encode images at all scales of a 2x model."""
    settings, sizes = _autoencoder(preset)
    tokenizer = _tokenizer(settings, device)
    pixels = sizes[-1] * settings.stride
    images = torch.rand(batch, 3, pixels, pixels, device=device) * 2 - 1
    phases = [
        phase
        for size in sizes
        for phase in network_phase(
            flops.encode(settings, size),
            weights=flops.autoencoder_weights(settings) // 2,
            values=3 * (size * settings.stride) ** 2 + size * size * settings.code_dim,
            value_bytes=4,
            batch=batch,
        )
    ]

    @torch.inference_mode()
    def encode() -> object:
        return tokenizer.codes(images, sizes)

    return Case(
        variants={FAST: encode},
        items=batch,
        phases=tuple(phases),
        settings={"batch": batch, "scales": list(sizes)},
    )


def _decode(preset: str, batch: int, precision: Precision, device: torch.device) -> Case:
    """Decode the finest codes."""
    settings, sizes = _autoencoder(preset)
    tokenizer = _tokenizer(settings, device).to(DTYPES[precision])
    size = sizes[-1]
    codes = torch.randint(settings.codebook_size, (batch, size, size), device=device)

    @torch.inference_mode()
    def decode() -> object:
        return tokenizer.decode(codes)

    phases = network_phase(
        flops.decode(settings, size),
        weights=flops.autoencoder_weights(settings) // 2,
        values=3 * (size * settings.stride) ** 2 + size * size * settings.code_dim,
        value_bytes=torch.finfo(DTYPES[precision]).bits // 8,
        batch=batch,
    )
    return Case(
        variants={FAST: decode}, items=batch, phases=tuple(phases), settings={"batch": batch}
    )


def _autoencoder(preset: str) -> tuple[Autoencoder, Sequence[int]]:
    """Return a preset's autoencoder, and the scales of its first model of ratio 2."""
    settings = load_preset(preset)
    name = {_MINI: "ratio2", _PAPER: "l-2x"}[preset]
    return settings.tokenizer.autoencoder, settings.sizes(name)


def _tokenizer(settings: Autoencoder, device: torch.device) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(settings).to(device).eval().requires_grad_(False)
