"""Parts that read from disk what training reads."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pcb.bench.case import FAST, Case, Part, Scope
from pcb.data.arrays import save_array
from pcb.data.shards import LABELS, TokenCache, token_shard
from pcb.params import load_preset

_CROPS, _SHARDS = 10, 4
_CODES = 4096


def parts(scope: Scope) -> Iterator[Part]:
    """Yield the token cache, at the batch of a training iteration on one GPU."""
    images = 512 if scope == "quick" else 8192
    yield Part(name="loading/tokens", item="images", make=partial(_tokens, images, 64))


def _tokens(images: int, batch: int, _: torch.device) -> Case:
    """Read random crops of random images, of a cache of random codes that is made for it.

    The cache is small and new, so the system holds it in memory: this is the program's own time.
    """
    sizes = load_preset("paper").sizes("l-2x")
    folder = tempfile.TemporaryDirectory(prefix="pcb-bench-")
    root, random = Path(folder.name), np.random.default_rng(0)
    save_array(root / LABELS, np.zeros(images, np.int64))
    for size in sizes:
        for shard in range(_SHARDS):
            shape = (images // _SHARDS, _CROPS, size, size)
            save_array(token_shard(root, size, shard), random.integers(0, _CODES, shape, np.uint16))
    cache = TokenCache(root, sizes)

    def read(kept: object = folder) -> object:
        """Read one batch; `kept` keeps the folder for as long as this can be called."""
        return cache.codes(random.integers(0, images, batch), random.integers(0, _CROPS, batch))

    return Case(variants={FAST: read}, items=batch, settings={"batch": batch, "images": images})
