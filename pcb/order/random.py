"""A random order per image, in blocks that grow along a cosine (RandAR, arXiv 2412.01827)."""

import math

import numpy as np
from numpy.typing import NDArray

_ORDERS = 1
"""Third word of the counter: an image's uniform numbers (`pcb.sample.uniforms`) have 0 there."""


def random_orders(n: int, seed: int, images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (B, n*n) row-major cell indices in sampling order, one order for each image's index.

    Image i's order depends on n, the seed and i alone, and every order is as likely as any other.
    """
    # Sorting random words is defined by this file; what a generator calls a permutation may change
    # with its library. Words of 64 bits do not tie.
    words = [
        np.random.Philox(key=[seed, int(image)], counter=[0, n, _ORDERS, 0]).random_raw(n * n)
        for image in images
    ]
    return np.argsort(np.reshape(words, (len(images), n * n)), axis=1, kind="stable")


def cosine_blocks(tokens: int, steps: int | None) -> tuple[int, ...]:
    """Return the sizes of the blocks; None samples one token at a time.

    After t of S steps N (1 - cos(pi t / 2S)) + 1 of N tokens are sampled, rounded down; a block has
    at least one token, the first has one, and sampling stops when all have been, so that the number
    of blocks may differ from S.
    """
    if steps is None:
        return (1,) * tokens
    sizes, done = [1], 1
    while done < tokens:
        curve = 1 - math.cos(math.pi * (len(sizes) + 1) / (2 * steps))
        target = min(tokens, math.floor(tokens * curve + 1))
        sizes.append(max(1, target - done))
        done += sizes[-1]
    return tuple(sizes)
