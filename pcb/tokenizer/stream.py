"""Codes of training images, encoded when a batch is drawn: what the token cache holds, without it.

Same crop, same codes: exactly on a CPU, up to float rounding on a GPU. It costs a pass of the
encoder for every image of every epoch, and saves the time and the space of the cache.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pcb.data.images import Images
from pcb.tokenizer.encode import encode
from pcb.tokenizer.vq import Tokenizer


class TokenStream:
    """Codes of some scales, as `pcb.tokenizer.cache.TokenCache` gives them."""

    def __init__(
        self, images: Images, tokenizer: Tokenizer, sizes: Sequence[int], batch: int
    ) -> None:
        """Encode at most `batch` images at a time, on the tokenizer's device."""
        self.images = images
        self.sizes = tuple(sizes)
        self._tokenizer = tokenizer
        self._batch = batch

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) labels of the images, from 0 on."""
        return self.images.labels

    @property
    def crops(self) -> int:
        """Number of crops of every image."""
        return self.images.crops

    def codes(
        self, images: NDArray[np.int64], crops: NDArray[np.int64]
    ) -> dict[int, NDArray[np.int64]]:
        """Return the codes of one crop of each image: size -> int64 (B, size, size).

        Raises UserError naming a file of an image that is missing, changed or broken.
        """
        codes = {size: np.empty((len(images), size, size), dtype=np.int64) for size in self.sizes}
        for start in range(0, len(images), self._batch):
            part = slice(start, start + self._batch)
            pixels = self.images.read(images[part], crops[part])
            for size, grid in encode(self._tokenizer, pixels, self.sizes).items():
                codes[size][part] = grid.numpy(force=True)
        return codes
