"""The base of what `pcb.load` returns: a model that takes classes and gives images.

Letters: N images, T tokens of an image, H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pcb.config.sweep import GUIDANCE_START
from pcb.errors import UserError
from pcb.generate.names import find_class
from pcb.generate.options import Options
from pcb.runtime.device import compute_exactly
from pcb.sample.sampler import Sampler
from pcb.sample.uniforms import uniforms

Labels = Sequence[int | str] | NDArray[np.integer[Any]]
Advance = Callable[[int], None]
DEFAULT = Options()
_FRAME_BATCH = 8
"""Images decoded at a time where every step of them is."""


class ImageModel(ABC):
    """A finished model: classes in, images out. Nothing is written, and no folder is asked for.

    An image depends on the model, the options, its class and its index alone. On a CPU it is the
    same to the bit in whatever batch; on a GPU, in another batch, up to rounding of logits, after
    which a code may differ.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...] | None
    """By number; None where classes have numbers alone."""
    image_size: int
    """H and W in pixels."""
    sizes: tuple[int, ...]
    """Sides of the token grids that an image's T codes fill, coarse to fine."""
    device: torch.device
    batch: int
    """Images sampled at a time."""
    _last: tuple[Options, Sampler] | None = None

    def __call__(
        self,
        labels: Labels,
        *,
        steps: int | None = None,
        blocks: int | Sequence[int] | None = None,
        guidance: float | None = None,
        guidance_start: int = GUIDANCE_START,
        temperature: float = 1.0,
        seed: int = 0,
        images: ArrayLike | None = None,
    ) -> NDArray[np.uint8]:
        """Return uint8 (N, H, W, 3) images of N classes, given by number or name.

        The other keywords are those of `pcb.generate.options.Options`; `images` as in `codes`.
        Raises UserError for what is out of range.
        """
        options = Options(
            steps=steps,
            blocks=blocks,
            guidance=guidance,
            guidance_start=guidance_start,
            temperature=temperature,
            seed=seed,
        )
        return self.decode(self.codes(labels, options, images=images))

    def codes(
        self,
        labels: Labels,
        options: Options = DEFAULT,
        *,
        images: ArrayLike | None = None,
        advance: Advance | None = None,
    ) -> NDArray[np.uint16]:
        """Return uint16 (N, T) codes, scale by scale, coarse to fine, row-major in a scale.

        images: (N,) indices, from 0, which with the seed decide the random numbers. Without them
        the k-th image of class c is number c + k C of C classes: in a sample set, which goes round
        the classes, that is its place. advance: called with 1 after every step of every batch.
        """
        labels_N = self.labels(labels)
        images_N = indices_of(labels_N, self.num_classes) if images is None else _indices(images)
        if len(images_N) != len(labels_N):
            raise UserError(f"{len(images_N)} images' indices for {len(labels_N)} labels")
        parts = [np.empty((0, sum(size * size for size in self.sizes)), np.uint16)]
        with exactly(self.device):
            for start in range(0, len(labels_N), self.batch):
                chosen = slice(start, start + self.batch)
                parts.append(self._sample(labels_N[chosen], images_N[chosen], options, advance))
        return np.concatenate(parts)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.uint8]:
        """Return uint8 (N, H, W, 3) images of (N, T) codes."""
        images = [np.empty((0, self.image_size, self.image_size, 3), np.uint8)]
        with exactly(self.device), torch.inference_mode():
            # One at a time: a convolution may round otherwise in a larger batch.
            images += [self._decode(one[None].astype(np.int64)) for one in np.asarray(codes)]
        return np.concatenate(images)

    def frames(
        self, codes: NDArray[Any], options: Options = DEFAULT, *, images: ArrayLike | None = None
    ) -> NDArray[np.uint8]:
        """Return uint8 (S, N, H, W, 3): N >= 1 images of (N, T) codes after each of S steps.

        A token that is not sampled yet shows what the model knows of it: the scale before, and
        before that the codebook's mean. images: their indices, which systems with an order for each
        image need; 0, 1, ... without.
        """
        images_N = np.arange(len(codes)) if images is None else _indices(images)
        codes_NT, parts = np.asarray(codes).astype(np.int64), []
        with exactly(self.device), torch.inference_mode():
            for start in range(0, len(codes_NT), _FRAME_BATCH):
                chosen = slice(start, start + _FRAME_BATCH)
                parts.append(self._frames(codes_NT[chosen], images_N[chosen], options))
        return np.concatenate(parts, axis=1)

    def labels(self, labels: Labels) -> NDArray[np.int64]:
        """Return the (N,) numbers of classes given by number or name, or raise UserError."""
        found = [find_class(label, self.class_names, self.num_classes) for label in labels]
        return np.array(found, np.int64)

    @abstractmethod
    def steps(self, options: Options) -> int:
        """Return how many serial steps an image takes. Raises UserError if there is no such way."""

    def warning(self, options: Options) -> str | None:
        """Return one line about steps that the model was not trained for, if they are such."""
        return None

    def uniforms(self, images_B: NDArray[np.int64], seed: int) -> torch.Tensor:
        """Return the (B, T) random numbers of images."""
        return torch.from_numpy(uniforms(seed, images_B, self.sizes))

    def _sample(
        self,
        labels_B: NDArray[np.int64],
        images_B: NDArray[np.int64],
        options: Options,
        advance: Advance | None,
    ) -> NDArray[np.uint16]:
        """Return the (B, T) codes of one batch."""
        orders_BT = self._orders(images_B, options)
        codes_BT = self._sampler(options).sample(
            torch.from_numpy(labels_B),
            self.uniforms(images_B, options.seed),
            None if orders_BT is None else torch.from_numpy(orders_BT),
            observe=None if advance is None else lambda _step, _measured: advance(1),
        )
        return codes_BT.numpy(force=True).astype(np.uint16)

    def _sampler(self, options: Options) -> Sampler:
        """Return the sampler of the last call, if it had the same options; the seed is no matter.

        A GPU records every step of a sampler once.
        """
        options = replace(options, seed=0)
        if self._last is None or self._last[0] != options:
            self._last = options, self._new_sampler(options)
        return self._last[1]

    @abstractmethod
    def _new_sampler(self, options: Options) -> Sampler:
        """Return a sampler. Raises UserError for options that the model does not have."""

    def _orders(self, images_B: NDArray[np.int64], options: Options) -> NDArray[np.int64] | None:
        """Return the order of each image, (B, T), None where all share one."""
        return None

    @abstractmethod
    def _decode(self, codes_BT: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return (B, H, W, 3) images."""

    @abstractmethod
    def _frames(
        self, codes_BT: NDArray[np.int64], images_B: NDArray[np.int64], options: Options
    ) -> NDArray[np.uint8]:
        """Return (S, B, H, W, 3) images."""


def indices_of(labels_N: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Return the index of each image: of class c, in turn, c, c + C, c + 2 C and so on."""
    seen: dict[int, int] = {}
    found = []
    for label in labels_N.tolist():
        found.append(label + seen.get(label, 0) * num_classes)
        seen[label] = seen.get(label, 0) + 1
    return np.array(found, np.int64)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Compute as the stages do, with one thread and exact kernels; then as before."""
    threads = torch.get_num_threads()
    exact = torch.get_deterministic_debug_mode()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    tf32 = products.allow_tf32, convolutions.allow_tf32
    compute_exactly(device, 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(exact)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        products.allow_tf32, convolutions.allow_tf32 = tf32


def _indices(images: ArrayLike) -> NDArray[np.int64]:
    """Return indices of images, or raise UserError."""
    found = np.asarray(images)
    if found.ndim != 1 or found.dtype.kind not in "iu" or (found < 0).any():
        raise UserError("images: expected a list of indices, whole numbers of at least 0")
    return found.astype(np.int64)
