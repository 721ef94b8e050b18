"""Reconstruction scores of a tokenizer, scale by scale, with one codebook or several."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.data.arrays import from_uint8, to_uint8
from pcb.metrics.features import Extractor
from pcb.metrics.frechet import frechet_distance
from pcb.metrics.ssim import WINDOW, ssim
from pcb.metrics.statistics import Sums, sums_of
from pcb.tokenizer.codebook import perplexity
from pcb.tokenizer.pyramid import image_pyramid
from pcb.tokenizer.quantize import lookup, nearest_codes
from pcb.tokenizer.vq import Tokenizer

Pixels = NDArray[np.uint8]
"""(n, 3, H, W)."""


class Tally:
    """Sums over the images of one scale, as one codebook leaves them."""

    def __init__(self, codebook_size: int, *, similarity: bool) -> None:
        self.images = 0
        self.error = 0.0
        self.similarity = 0.0 if similarity else None
        self.counts = torch.zeros(codebook_size)
        self.features: Sums | None = None

    def add(
        self,
        target_B3HW: Tensor,
        decoded_B3HW: Tensor,
        codes_Bhw: Tensor,
        features: Sums | None = None,
    ) -> None:
        """Count images in [-1, 1], what is left of them, its features, and their codes."""
        self.images += len(target_B3HW)
        self.error += float((decoded_B3HW - target_B3HW).square().mean((1, 2, 3)).sum())
        self.counts += torch.bincount(codes_Bhw.flatten().cpu(), minlength=len(self.counts))
        if self.similarity is not None:
            self.similarity += float(ssim(decoded_B3HW, target_B3HW).sum())
        self.features = added(self.features, features)

    def results(self, originals: Sums | None) -> dict[str, float]:
        """Return fidelity and use of the codebook; `originals` are the images' features.

        PSNR is in dB; usage is the fraction of codes that any of the images chooses.
        """
        found = {"psnr": psnr(self.error / self.images)}
        if self.similarity is not None:
            found["ssim"] = self.similarity / self.images
        if self.features is not None and originals is not None:
            found["rfid"] = frechet_distance(
                self.features.statistics(), originals.statistics(), originals.total.device
            )
        found["codebook_usage"] = float((self.counts > 0).double().mean())
        found["perplexity"] = perplexity(self.counts)
        return found


@torch.inference_mode()
def measure(
    tokenizer: Tokenizer,
    batches: Iterable[Pixels],
    sizes: Sequence[int],
    *,
    codebooks: Mapping[str, Tensor] | None = None,
    similarity: bool = False,
    extractor: Extractor | None = None,
) -> dict[str, dict[str, float]]:
    """Return fidelity and use of the codebook, size by size: result -> size -> value.

    `codebooks` (suffix of the results' names -> unit vectors) stand in for the tokenizer's own.
    `similarity` adds SSIM, where images are large enough for its window; an extractor adds rFID,
    the Frechet distance between the images of a scale and what is left of them.
    """
    codebooks = codebooks or {"": tokenizer.codebook}
    tallies = {
        (size, suffix): Tally(
            len(codes), similarity=similarity and size * tokenizer.stride >= WINDOW
        )
        for size in sizes
        for suffix, codes in codebooks.items()
    }
    originals: dict[int, Sums | None] = dict.fromkeys(sizes)
    for pixels in batches:
        images = on_device(tokenizer, pixels)
        for size, target in image_pyramid(images, sizes, tokenizer.stride).items():
            originals[size] = added(originals[size], seen(extractor, target))
            latents = tokenizer.encode(target)
            for suffix, codebook in codebooks.items():
                codes = nearest_codes(latents, codebook)
                decoded = tokenizer.decode(lookup(codes, codebook)).clamp(-1, 1)
                tallies[size, suffix].add(target, decoded, codes, seen(extractor, decoded))
    found = {(size, name): t.results(originals[size]) for (size, name), t in tallies.items()}
    return {
        name + suffix: {
            str(size): found[size, suffix][name] for size in sizes if name in found[size, suffix]
        }
        for name in dict.fromkeys(name for results in found.values() for name in results)
        for suffix in codebooks
    }


def seen(extractor: Extractor | None, images_B3HW: Tensor) -> Sums | None:
    """Return the sums of an extractor's features of images in [-1, 1], None without extractor."""
    return None if extractor is None else sums_of(extractor(to_uint8(images_B3HW)).pool)


def added(one: Sums | None, other: Sums | None) -> Sums | None:
    """Return the sums of two sets of images, where None is the empty set."""
    return one + other if one is not None and other is not None else one or other


@torch.inference_mode()
def reconstructions(
    tokenizer: Tokenizer, pixels: Pixels, codebooks: Sequence[Tensor] = ()
) -> NDArray[np.uint8]:
    """Return images and what each codebook leaves of them at the finest scale.

    uint8 (1 + codebooks, n, 3, H, W), the images first; without codebooks, with the tokenizer's.
    """
    images = on_device(tokenizer, pixels)
    latents = tokenizer.encode(images)
    rows = [pixels]
    for codebook in codebooks or (tokenizer.codebook,):
        decoded = tokenizer.decode(lookup(nearest_codes(latents, codebook), codebook))
        rows.append(to_uint8(decoded).cpu().numpy())
    return np.stack(rows)


def psnr(error: float) -> float:
    """Return decibels of a mean squared error on images in [-1, 1]."""
    return 10 * float(np.log10(4 / error))


def on_device(tokenizer: Tokenizer, pixels: Pixels) -> Tensor:
    """Return pixels on the tokenizer's device, in [-1, 1]."""
    return from_uint8(torch.from_numpy(pixels.copy()).to(tokenizer.codebook.device))
