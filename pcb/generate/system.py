"""A system of the table with its tokenizer, as what `pcb.load` returns.

Letters: B images, T tokens of an image, C code dim, D code width of VAR, h w the finest grid.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.generate.model import ImageModel
from pcb.generate.options import Options
from pcb.published.guidance import OFF, Constant, Guidance
from pcb.runtime.device import DTYPES
from pcb.sample.decoder import Decoder
from pcb.sample.filter import Filter
from pcb.sample.sampler import Sampler
from pcb.systems.images import to_bytes
from pcb.systems.kinds import Kind
from pcb.systems.running import decode_codes
from pcb.systems.var_decoding import by_scale
from pcb.systems.var_tokenizer import VARTokenizer
from pcb.tokenizer.quantize import lookup
from pcb.tokenizer.vq import Tokenizer

_MOST_FRAMES = 64
"""Steps of sampling that are shown, evenly spread where there are more."""


class SystemModel(ImageModel):
    """Samples in the system's own order, with its own filter and, unless told, its guidance."""

    def __init__(
        self,
        kind: Kind,
        model: nn.Module,
        tokenizer: Tokenizer | VARTokenizer,
        *,
        name: str,
        num_classes: int,
        class_names: tuple[str, ...] | None,
        device: torch.device,
        precision: str,
        batch: int,
        guidance: Guidance = OFF,
        steps: int | None = None,
        filter: Filter | None = None,
    ) -> None:
        """guidance, steps, filter: those of calls that do not say; None is all tokens one by one.

        Raises UserError unless the tokenizer has as many codes as the model samples from.
        """
        self.name, self.class_names, self.device, self.batch = name, class_names, device, batch
        self.num_classes = num_classes
        self._kind, self._guidance, self._schedule_steps = kind, guidance, steps
        self._filter = filter or Filter()
        self._model = model.to(device, DTYPES[precision])
        self.tokenizer = tokenizer.to(device)
        decoder = self._decoder(Options())
        self.sizes = _sizes(decoder, self.tokenizer)
        codes = _codes(self.tokenizer)
        if codes != decoder.vocabulary:
            raise UserError(
                f"{name}: samples from {decoder.vocabulary} codes, but the tokenizer has {codes}: "
                "it is another one than that of its training"
            )
        self.image_size = self.sizes[-1] * _stride(self.tokenizer)

    def steps(self, options: Options) -> int:
        """Return the model calls of an image."""
        return self._decoder(options).steps

    def _decoder(self, options: Options) -> Decoder:
        """Return a decoder. Raises UserError for what only the paper's own models have."""
        if options.blocks is not None:
            raise UserError(f"{self.name}: its order gives the blocks; say steps, or neither")
        guidance = self._guidance
        if options.guidance is not None:
            guidance = Constant(1 + options.guidance)
        wanted = options.steps if options.steps is not None else self._schedule_steps
        if wanted is not None and wanted < 1:
            raise UserError(f"{self.name}: no schedule of {wanted} steps; the nearest has 1")
        decoder = self._kind.decoder(self._model, guidance, wanted, self.tokenizer)
        if options.steps is not None and decoder.steps != options.steps:
            raise UserError(
                f"{self.name}: no schedule of {options.steps} steps; the nearest has "
                f"{decoder.steps}"
            )
        return decoder

    def _new_sampler(self, options: Options) -> Sampler:
        return Sampler(self._decoder(options), filter=self._filter_of(options))

    def _filter_of(self, options: Options) -> Filter:
        own = self._filter
        temperature = own.temperature * options.temperature
        return Filter(temperature=temperature, top_k=own.top_k, top_p=own.top_p)

    def _orders(self, images_B: NDArray[np.int64], options: Options) -> NDArray[np.int64] | None:
        if self._kind.orders is None:
            return None
        steps = options.steps if options.steps is not None else self._schedule_steps
        return self._kind.orders(self._model, steps, options.seed, images_B)

    def _decode(self, codes_BT: NDArray[np.int64]) -> NDArray[np.uint8]:
        codes = torch.from_numpy(codes_BT).to(self.device)
        return _pixels(decode_codes(self.tokenizer, codes, self.sizes))

    def _frames(
        self, codes_BT: NDArray[np.int64], images_B: NDArray[np.int64], options: Options
    ) -> NDArray[np.uint8]:
        codes = torch.from_numpy(codes_BT).to(self.device)
        if isinstance(self.tokenizer, VARTokenizer):
            sums = self.tokenizer.quantize.sums(by_scale(codes, self.sizes))
            return np.stack([_pixels(self.tokenizer.decode_sum(sum_)) for sum_ in sums])
        orders_BT = self._orders(images_B, options)
        decoder = self._decoder(options)
        # Which cells a step samples does not depend on the class.
        decoder.begin(
            torch.zeros(len(codes), dtype=torch.int64),
            None if orders_BT is None else torch.from_numpy(orders_BT),
        )
        return np.stack([_pixels(image) for image in _partly(decoder, codes, self.tokenizer)])


def _partly(decoder: Decoder, codes_BT: Tensor, tokenizer: Tokenizer) -> Iterator[Tensor]:
    """Yield images of what is sampled after each step; other cells show the mean code."""
    side = math.isqrt(codes_BT.shape[1])
    vectors_BChw = lookup(codes_BT.view(-1, side, side), tokenizer.codebook)
    mean_C11 = tokenizer.codebook.mean(0).view(-1, 1, 1)
    seen_BT = torch.zeros_like(codes_BT, dtype=torch.bool)
    every = math.ceil(decoder.steps / _MOST_FRAMES)
    for step in range(decoder.steps):
        seen_BT.scatter_(1, decoder.cells(step).expand(len(codes_BT), -1), True)
        if (step + 1) % every == 0 or step == decoder.steps - 1:
            seen_B1hw = seen_BT.view(-1, 1, side, side)
            yield tokenizer.decode(torch.where(seen_B1hw, vectors_BChw, mean_C11))


def _sizes(decoder: Decoder, tokenizer: Tokenizer | VARTokenizer) -> tuple[int, ...]:
    """Return the sides of the token grids."""
    if isinstance(tokenizer, VARTokenizer):
        return tuple(tokenizer.config.scales)
    return (math.isqrt(decoder.tokens),)


def _codes(tokenizer: Tokenizer | VARTokenizer) -> int:
    """Return how many codes a tokenizer has."""
    if isinstance(tokenizer, VARTokenizer):
        return tokenizer.config.codes
    return len(tokenizer.codebook)


def _stride(tokenizer: Tokenizer | VARTokenizer) -> int:
    """Return the pixels of a token, a side."""
    if isinstance(tokenizer, VARTokenizer):
        return 1 << (len(tokenizer.config.widths) - 1)
    return tokenizer.stride


def _pixels(image_B3HW: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = to_bytes(image_B3HW).numpy(force=True)
    return pixels
