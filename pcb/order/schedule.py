"""Scales, blocks and steps: which tokens are sampled together (paper, sections 3 and 4).

A *scale* is one level of the pyramid, an s x s grid of tokens. A *block* is the run of tokens, in
checkerboard order, of one scale that are sampled in parallel. A *step* is one block. Pure Python,
so that a Snakefile can ask for step counts without loading numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """For every scale, coarse to fine, the sizes of its blocks in sampling order.

    `sizes` are the sides of the grids; `blocks[k]` sums to `sizes[k] ** 2`.
    """

    sizes: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.blocks):
            raise ValueError(f"{len(self.sizes)} scales but blocks for {len(self.blocks)}")
        for size, blocks in zip(self.sizes, self.blocks, strict=True):
            if sum(blocks) != size * size or min(blocks) < 1:
                raise ValueError(
                    f"blocks {list(blocks)} do not tile the {size * size} tokens of scale {size}"
                )

    @property
    def tokens(self) -> int:
        """Number of tokens over all scales."""
        return num_tokens(self.sizes)

    @property
    def blocks_per_scale(self) -> tuple[int, ...]:
        """Number of blocks of each scale, coarse to fine."""
        return tuple(len(blocks) for blocks in self.blocks)

    @property
    def steps(self) -> int:
        """Number of serial model calls: one per block."""
        return sum(self.blocks_per_scale)


def num_tokens(sizes: Sequence[int]) -> int:
    """Number of tokens of a pyramid with these sides."""
    return sum(size * size for size in sizes)


def scale_sizes(final: int, ratio: float | None, min_size: int = 1) -> tuple[int, ...]:
    """Return the sides of the pyramid's grids, coarse to fine, ending at `final`.

    The sides are final / ratio^k for k = 0, 1, ... until one is at most `min_size`, plus `min_size`
    itself; each is rounded half to even, and duplicates and zeros are dropped. `ratio` None means
    a single scale.

    Raises ValueError unless ratio > 1 and 1 <= min_size <= final.
    """
    if not 1 <= min_size <= final:
        raise ValueError(f"min size {min_size} must lie between 1 and the final size {final}")
    if ratio is None:
        return (final,)
    if not ratio > 1:
        raise ValueError(f"the ratio between scales must be greater than 1, got {ratio}")
    sizes = {min_size}
    size = float(final)
    while size > min_size:
        sizes.add(round(size))
        size /= ratio
    return tuple(sorted(s for s in sizes if s >= min_size))


def blocks_of(tokens: int, count: int) -> tuple[int, ...]:
    """Cut one scale's tokens into blocks of max(1, tokens // count), the paper's rule for K.

    A remainder is a block of its own, so that K is a lower bound of the number of blocks unless a
    scale has fewer than K tokens.
    """
    if count < 1:
        raise ValueError(f"blocks per scale must be at least 1, got {count}")
    size = max(1, tokens // count)
    full, rest = divmod(tokens, size)
    return (size,) * full + ((rest,) if rest else ())


def schedule_from_blocks(
    sizes: Sequence[int], blocks: int | Sequence[int | Sequence[int]]
) -> Schedule:
    """Schedule with K blocks per scale (the paper's rule), or as it is said for each scale.

    A single K follows `blocks_of` and may take more steps than K. For a scale there may be the
    number of its blocks, which is hit exactly, or their sizes.
    """
    if isinstance(blocks, int):
        cut = tuple(blocks_of(size * size, blocks) for size in sizes)
        return Schedule(sizes=tuple(sizes), blocks=cut)
    if len(blocks) != len(sizes):
        raise ValueError(
            f"blocks per scale has {len(blocks)} entries for {len(sizes)} scales "
            f"({' '.join(map(str, sizes))})"
        )
    cut = tuple(
        exact_blocks(size, own) if isinstance(own, int) else tuple(own)
        for size, own in zip(sizes, blocks, strict=True)
    )
    return Schedule(sizes=tuple(sizes), blocks=cut)


def serial_schedule(sizes: Sequence[int]) -> Schedule:
    """Schedule of one token per block: what the price of parallel sampling is measured against."""
    return schedule_from_blocks(sizes, [size * size for size in sizes])


def exact_blocks(size: int, count: int) -> tuple[int, ...]:
    """Cut the tokens of an s x s scale into exactly `count` blocks that training has seen, if any.

    The largest trained size of which `count` blocks fit, a remainder in the last one; else the
    largest of which `count` blocks are needed, the last one smaller: training does either half of
    the time. Where no trained size gives `count` blocks, they are as equal as possible, larger ones
    first, so that every token has one a block earlier.

    Raises ValueError unless 1 <= count <= s * s.
    """
    tokens = size * size
    if not 1 <= count <= tokens:
        raise ValueError(f"{tokens} tokens cannot be cut into {count} blocks")
    fitting = [n for n in training_block_sizes(size) if tokens // n == count]
    needed = [n for n in training_block_sizes(size) if -(-tokens // n) == count]
    if fitting or needed:
        block = max(fitting or needed)
        return (block,) * (count - 1) + (tokens - block * (count - 1),)
    small, rest = divmod(tokens, count)
    return (small + 1,) * rest + (small,) * (count - rest)


BlockKind = Literal["aligned", "trained", "untrained"]


def block_kind(size: int, blocks: Sequence[int]) -> BlockKind:
    """Say what a model knows of the blocks of an s x s scale.

    `aligned`: blocks of one token, one block, or a power of two of equal blocks on a grid whose
    side is a power of two, so that every prefix is balanced. `trained`: blocks of a size that
    training draws, the remainder joined to the last or a block of its own. `untrained`: others.
    """
    tokens, block = size * size, blocks[0]
    equal = set(blocks) == {block}
    if equal and (
        len(blocks) in (1, tokens) or (is_power_of_two(size) and is_power_of_two(len(blocks)))
    ):
        return "aligned"
    rest = tokens % block
    last = {block, rest, block + rest} if rest else {block}
    seen = block in training_block_sizes(size) and set(blocks[:-1]) <= {block}
    return "trained" if seen and blocks[-1] in last else "untrained"


def block_starts(blocks: Sequence[int]) -> tuple[int, ...]:
    """Return the position of each block's first token in its scale's order."""
    return tuple(accumulate(blocks, initial=0))[:-1]


def training_block_sizes(size: int) -> tuple[int, ...]:
    """Return the 2s - 1 block sizes that training draws from for an s x s scale (paper, section 4).

    They are 1..s and s*s // x for 1 <= x < s, with repetitions: a repeated value is likelier.
    """
    return tuple(range(1, size + 1)) + tuple(size * size // x for x in range(1, size))


def is_power_of_two(number: int) -> bool:
    """Say whether a positive number is a power of two."""
    return number & (number - 1) == 0
