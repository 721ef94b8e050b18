"""ADM's protocol: its reference file seen through Inception (METHOD section 7)."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pcb.device import send
from pcb.errors import UserError
from pcb.metrics.features import Extractor, extract
from pcb.metrics.image_files import ImageFiles
from pcb.metrics.target import Target, read_statistics


def adm_target(
    extractor: Extractor,
    reference: ImageFiles,
    batch: int,
    device: torch.device,
    advance: Callable[[int], None],
) -> Target:
    """Return the stored statistics of a reference .npz and the features of its images.

    Raises UserError if the file lacks statistics, or if they are of another extractor.
    """
    pool, spatial = read_statistics(reference.path)
    features = extract(extractor, tensors(reference, batch, device), advance)
    seen = {"mu": features.pool.shape[1]}
    stored = {"mu": len(pool.mean)}
    if features.spatial is not None:
        seen["mu_s"] = len(features.spatial.total)
        stored["mu_s"] = 0 if spatial is None else len(spatial.mean)
    if seen != stored:
        raise UserError(
            f"{reference.path}: its statistics have {stored} features, the extractor {seen}; is "
            "it ADM's reference file?"
        )
    return Target(features.pool, pool, spatial)


def tensors(images: ImageFiles, batch: int, device: torch.device) -> Iterator[Tensor]:
    """Yield images as uint8 (B, 3, H, W) on a device."""
    for pixels in images.batches(batch):
        channels_first = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        yield send(torch.from_numpy(channels_first), device)
