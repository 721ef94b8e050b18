"""Philox 4x64 with 10 rounds, of many keys and counters at once.

J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The numbers are those of
`numpy.random.Generator(numpy.random.Philox(key=..., counter=...))`, which makes one key's at a
time; here 64-bit products come out of 32-bit halves, in whole arrays.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint64]

FLOATS = 8
"""32-bit numbers of one counter."""
_ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def blocks(key: tuple[int, Words], counter: tuple[Words, Words]) -> Words:
    """Return the four words of each counter, (..., 4), as the cipher gives them.

    Keys are (one number, an array), counters the two low words of four; arrays are broadcast.
    """
    shape = np.broadcast_shapes(key[1].shape, counter[0].shape, counter[1].shape)
    zero = np.zeros(shape, np.uint64)
    key0, key1 = np.uint64(key[0]), key[1]
    c0, c1, c2, c3 = counter[0] + zero, counter[1] + zero, zero, zero
    with np.errstate(over="ignore"):  # The keys' sums are modulo 2^64.
        for _ in range(_ROUNDS):
            high0, low0 = _product(_MULTIPLIERS[0], c0)
            high1, low1 = _product(_MULTIPLIERS[1], c2)
            c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
            key0, key1 = key0 + np.uint64(_WEYL[0]), key1 + np.uint64(_WEYL[1])
    return np.stack([c0, c1, c2, c3], axis=-1)


def floats(words: Words) -> NDArray[np.float32]:
    """Return two numbers in [0, 1) a word, the lower half's first: (..., 2 * words)."""
    halves = np.stack([words & _LOW, words >> _HALF], axis=-1).astype(np.uint32)
    numbers = (halves >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    return numbers.reshape(*words.shape[:-1], 2 * words.shape[-1])


def _product(a: int, b: Words) -> tuple[Words, Words]:
    """Return the upper and the lower 64 bits of a * b."""
    a_high, a_low = np.uint64(a >> 32), np.uint64(a & 0xFFFFFFFF)
    b_high, b_low = b >> _HALF, b & _LOW
    low, middle, other = a_low * b_low, a_high * b_low, a_low * b_high
    carry = ((low >> _HALF) + (middle & _LOW) + (other & _LOW)) >> _HALF
    high = a_high * b_high + (middle >> _HALF) + (other >> _HALF) + carry
    return high, np.uint64(a) * b
