"""Features of images, gathered in one pass of an extractor that serves every metric.

Letters: B images of a batch, n of all, F features, K classes, S spatial features.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcb.config import Compute
from pcb.data.arrays import save_arrays
from pcb.metrics.statistics import Sums, sums_of
from pcb.runtime.device import receive
from pcb.runtime.prefetch import prefetched


class Layers(NamedTuple):
    """What an extractor sees of a batch, float32."""

    pool: Tensor
    """(B, F): what FID, KID, precision and recall compare."""
    logits: Tensor
    """(B, K): what the Inception score reads."""
    spatial: Tensor | None = None
    """(B, S): what sFID compares, if the extractor has it."""


Extractor = Callable[[Tensor], Layers]
"""Takes uint8 images (B, 3, H, W) on its device."""


@dataclass(frozen=True)
class Features:
    """What an extractor saw of n images, in their order, on the CPU."""

    pool: Tensor
    """(n, F) float32."""
    logits: Tensor
    """(n, K) float32."""
    spatial: Sums | None
    """Sums alone: 50,000 images' spatial features would fill 0.4 GB."""


@torch.inference_mode()
def extract(
    extractor: Extractor,
    batches: Iterable[Tensor],
    advance: Callable[[int], None],
    prefetch: int = Compute().prefetch,
) -> Features:
    """Run an extractor over batches of images; `advance` hears of each batch's size.

    While it sees one, up to `prefetch` more are read or decoded (`pcb.runtime.prefetch`). For
    thousands of images: spatial features, 8 kB each, are held until all are there to be added up at
    once.
    """
    pool, logits, spatial = [], [], []
    for pixels in prefetched(batches, prefetch):
        layers = extractor(pixels)
        pool.append(receive(layers.pool))
        logits.append(receive(layers.logits))
        if layers.spatial is not None:
            spatial.append(layers.spatial)
        advance(len(pixels))
    sums = sums_of(torch.cat(spatial)).cpu() if spatial else None
    return Features(
        torch.cat([arrived() for arrived in pool]),
        torch.cat([arrived() for arrived in logits]),
        sums,
    )


def join_features(parts: Iterable[Features]) -> Features:
    """Return the features of all images of parts that follow each other."""
    pool, logits, spatial = [], [], None
    # One after the other: each has sums of its own, which are as large as those of all.
    for part in parts:
        pool.append(part.pool)
        logits.append(part.logits)
        if part.spatial is not None:
            spatial = part.spatial if spatial is None else spatial + part.spatial
    return Features(torch.cat(pool), torch.cat(logits), spatial)


def save_features(path: Path, features: Features, origin: str = "") -> None:
    """Write features as .npz, all or nothing; `origin` says what they are of."""
    arrays = {"pool": features.pool.numpy(), "logits": features.logits.numpy()}
    if (sums := features.spatial) is not None:
        arrays |= {"count": np.array(sums.count)}
        arrays |= {"total": sums.total.numpy(), "products": sums.products.numpy()}
    if origin:
        arrays |= {"origin": np.array(origin)}
    save_arrays(path, arrays)


def load_features(path: Path, origin: str = "") -> Features:
    """Read what `save_features` wrote. Raises ValueError if it is of another origin."""
    with np.load(path) as file:
        found = str(file["origin"]) if "origin" in file.files else ""
        if found != origin:
            raise ValueError(f"{path}: of {found!r}, not of {origin!r}")
        names = [name for name in file.files if name != "origin"]
        arrays = {name: torch.from_numpy(file[name]) for name in names}
    spatial = None
    if "products" in arrays:
        spatial = Sums(float(arrays["count"]), arrays["total"], arrays["products"])
    return Features(arrays["pool"], arrays["logits"], spatial)
