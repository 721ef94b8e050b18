"""Classes of images, and the random numbers that belong to an image.

Image i of a sample set is a function of (model, settings, i): its uniforms come from a
counter-based generator keyed by (seed, i), one for every (scale, cell). Two step counts therefore
share their random numbers, which sharpens the comparison of their images; batch size, number of
processes and interruptions do not appear.

Letters: B images, T tokens.
"""

from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from pcb.sample.philox import FLOATS, blocks, floats


def labels(num_classes: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each image: round-robin, so that every prefix is balanced."""
    return indices % num_classes


def random_labels(num_classes: int, seed: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each image, drawn at random, every class as likely.

    From a number of the image's own generator that no token has: no grid has a side of 0.
    """
    one = np.ones(1, dtype=np.uint64)
    words = blocks((seed, indices.astype(np.uint64)[:, None]), (one, 0 * one))
    numbers = floats(words).reshape(len(indices), -1)[:, 0].astype(np.float64)
    return (numbers * num_classes).astype(np.int64)


def uniforms(seed: int, indices: NDArray[np.int64], sizes: Items[int]) -> NDArray[np.float32]:
    """Return (B, T) numbers in [0, 1), scale by scale, row-major inside a scale.

    A scale's numbers depend on its side, not on its place in the pyramid: the 8x8 scale of a 2x
    and of a 4x model share them.
    """
    # Philox is a block cipher of a counter: key (seed, image), counter (position, scale, 0, 0).
    # A position gives `FLOATS` numbers, and NumPy's generator begins at position 1.
    counts = [-(-size * size // FLOATS) for size in sizes]
    positions = np.concatenate([np.arange(1, count + 1, dtype=np.uint64) for count in counts])
    scales = np.repeat(np.array(sizes, np.uint64), counts)
    words = blocks((seed, indices.astype(np.uint64)[:, None]), (positions, scales))
    numbers = floats(words).reshape(len(indices), FLOATS * len(positions))
    starts = FLOATS * np.cumsum([0, *counts])
    return np.concatenate(
        [numbers[:, i : i + size * size] for i, size in zip(starts, sizes, strict=False)], axis=1
    )
