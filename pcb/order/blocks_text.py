"""Blocks as text: `4` of every scale, `1,4,8` scale by scale, `1,4,4x11+2x10` with their sizes."""

from collections.abc import Sequence
from itertools import groupby

Cut = int | tuple[int, ...]
"""How one scale is cut: into so many blocks, or into blocks of these sizes."""


def read_blocks(text: str) -> int | tuple[Cut, ...]:
    """Read K, or how each scale is cut, coarse to fine. Raises ValueError for other text."""
    cuts = tuple(_read_cut(part) for part in text.split(","))
    return cuts[0] if len(cuts) == 1 and isinstance(cuts[0], int) else cuts


def blocks_text(blocks: int | Sequence[int | Sequence[int]]) -> str:
    """Return what `read_blocks` reads."""
    cuts = (blocks,) if isinstance(blocks, int) else blocks
    return ",".join(str(cut) if isinstance(cut, int) else sizes_text(cut) for cut in cuts)


def sizes_text(sizes: Sequence[int], join: str = "+", times: str = "x") -> str:
    """Return the sizes of a scale's blocks, equal neighbors counted: `4x11+2x10`."""
    counted = ((len(list(run)), size) for size, run in groupby(sizes))
    return join.join(f"{count}{times}{size}" for count, size in counted)


def _read_cut(text: str) -> Cut:
    if "x" not in text:
        return int(text)
    runs = [tuple(map(int, run.split("x"))) for run in text.split("+")]
    return tuple(size for count, size in runs for _ in range(count))
