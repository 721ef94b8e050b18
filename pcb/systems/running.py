"""Another system as the stages run it: loaded from a folder, sampled, its codes made to images.

Letters: B images, T tokens of an image, H W pixels.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pcb.config import Autoencoder, SystemRun
from pcb.data.arrays import to_uint8
from pcb.runtime.device import send
from pcb.sample.decoder import Block
from pcb.sample.ready import Indices, Ready
from pcb.sample.sampler import Measured, Sampler
from pcb.sample.uniforms import labels, random_labels
from pcb.systems.images import resized, to_bytes
from pcb.systems.kinds import KINDS, filter_of
from pcb.systems.var_decoding import by_scale
from pcb.systems.var_quantizer import VARTokenizerConfig
from pcb.systems.var_tokenizer import VARTokenizer, load_var_tokenizer
from pcb.tokenizer.load import TOKENIZER_FILE, load_tokenizer
from pcb.tokenizer.vq import Tokenizer

MODEL, TOKENIZER = "model.safetensors", TOKENIZER_FILE


def running(
    run: SystemRun,
    folder: Path,
    *,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    graphs: bool,
    measure: Callable[[Block], Measured],
) -> Ready:
    """Load a system from a folder that `pcb.external.systems` wrote, ready to sample.

    `seed` is that of classes and orders that are drawn. Raises UserError naming a file that does
    not fit.
    """
    system, ways = run.described, run.ways.of(run.published)
    kind, steps = KINDS[system.kind], system.schedule_steps
    model: Any = kind.load(system.description, run.system, folder / MODEL).to(device, dtype)
    tokenizer = None if system.tokenizer is None else own_tokenizer(run, folder).to(device)
    decoder = kind.decoder(model, system.guidance, steps, tokenizer)
    classes, orders_of = int(str(system.description["classes"])), kind.orders
    sizes = system.sides
    return Ready(
        sampler=Sampler(decoder, filter=filter_of(system), graphs=graphs, measure=measure),
        sizes=sizes,
        sides=sizes if len(sizes) > 1 else sizes * decoder.steps,
        results={"scales": list(sizes)},
        labels=classes_of(ways.classes, classes, seed),
        orders=None if orders_of is None else lambda images: orders_of(model, steps, seed, images),
    )


def classes_of(way: str, classes: int, seed: int) -> Callable[[Indices], Indices]:
    """Return what gives images their classes."""
    if way == "balanced":
        return lambda images: labels(classes, images)
    return lambda images: random_labels(classes, seed, images)


def images_of(
    run: SystemRun, folder: Path, *, side: int, device: torch.device, precision: torch.dtype
) -> Callable[[NDArray[np.uint16], int], Iterator[Tensor]]:
    """Return what makes codes (images, T), so many at a time, to uint8 (B, 3, side, side).

    As the system does it, or as the run's ways say. `precision` is that of LlamaGen's decoder.
    """
    tokenizer = own_tokenizer(run, folder).to(device)
    ways, sizes = run.ways.of(run.published), run.described.sides
    if isinstance(tokenizer, Tokenizer) and precision != torch.float32:
        tokenizer.round_decoder_to(precision)

    def images(codes: NDArray[np.uint16], batch: int) -> Iterator[Tensor]:
        for start in range(0, len(codes), batch):
            part = torch.from_numpy(codes[start : start + batch].astype(np.int64))
            image_B3HW = decode_codes(tokenizer, send(part, device), sizes)
            image_B3HW = _resized(image_B3HW, side, ways.resize)
            if ways.rounding == "nearest":
                yield to_uint8(image_B3HW)
            else:
                yield to_bytes(image_B3HW).permute(0, 3, 1, 2)

    return images


def decode_codes(
    tokenizer: Tokenizer | VARTokenizer, codes_BT: Tensor, sizes: tuple[int, ...]
) -> Tensor:
    """Return images (B, 3, H, W), about -1 to 1, of a system's codes."""
    if isinstance(tokenizer, VARTokenizer):
        return tokenizer.decode(by_scale(codes_BT, sizes))
    return tokenizer.decode(codes_BT.view(-1, sizes[-1], sizes[-1]))


def _resized(image_B3HW: Tensor, side: int, way: str) -> Tensor:
    """Return images of another side, as the system does it or with antialiasing."""
    if way == "bicubic" or image_B3HW.shape[-2:] == (side, side):
        return resized(image_B3HW, side)
    return F.interpolate(image_B3HW, size=(side, side), mode="bicubic", antialias=True)


def own_tokenizer(run: SystemRun, folder: Path) -> Tokenizer | VARTokenizer:
    """Load the tokenizer from a folder, on the CPU. Raises UserError naming the file."""
    if run.published.tokenizer is None:
        return load_tokenizer(folder, autoencoder_of(run))
    return load_var_tokenizer(folder / TOKENIZER, var_tokenizer_config(run))


def empty_tokenizer(run: SystemRun) -> nn.Module:
    """Return a tokenizer with random weights."""
    if run.published.tokenizer is None:
        return Tokenizer(autoencoder_of(run))
    return VARTokenizer(var_tokenizer_config(run))


def autoencoder_of(run: SystemRun) -> Autoencoder:
    """Return the architecture of LlamaGen's tokenizer, with as many codes as the system knows."""
    codes = run.described.description["codes"]
    return msgspec.structs.replace(run.tokenizer or Autoencoder(), codebook_size=codes)


def var_tokenizer_config(run: SystemRun) -> VARTokenizerConfig:
    """Return the architecture of VAR's tokenizer; another one is said in LlamaGen's words."""
    size: Any = run.described.description
    own = VARTokenizerConfig(
        codes=size["codes"], code_width=size["code_width"], scales=tuple(size["scales"])
    )
    if run.tokenizer is None:
        return own
    return msgspec.structs.replace(
        own,
        base_width=run.tokenizer.channels,
        width_multipliers=run.tokenizer.channel_multipliers,
        residual_blocks_per_level=run.tokenizer.residual_blocks,
        group_norm_groups=run.tokenizer.norm_groups,
    )
