"""The stage `tokens`: codes of every training image at every scale that a model needs.

Shards have fixed boundaries and each scale its own folder, so that adding a scale rewrites nothing;
a shard that is there is finished, so that an interrupted run continues. Memory holds the pixels of
a few batches and the codes of one shard.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcb.config import Compute
from pcb.data.arrays import save_array
from pcb.data.images import Images, open_images
from pcb.pipeline.job import Job
from pcb.runtime.device import compute_exactly, pick_device, receive
from pcb.runtime.prefetch import ahead
from pcb.runtime.progress import Progress
from pcb.tokenizer.cache import LABELS, token_shard
from pcb.tokenizer.encode import batches, encode
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.vq import Tokenizer


def run(job: Job) -> dict[str, Any]:
    """Encode what is not there yet."""
    preset = job.preset
    device = pick_device(preset.compute)
    compute_exactly(device, preset.compute.threads, tf32=preset.tokenizer.tf32)
    tokenizer = load_tokenizer(job.inputs["tokenizer"], preset.tokenizer.autoencoder).to(device)
    images = open_images(job.inputs["data"], preset, "train")
    if job.whole:
        save_array(job.folder / LABELS, images.labels)
    step = preset.tokens.shard_images
    shards = [range(k, min(k + step, len(images))) for k in range(0, len(images), step)]
    own = [(number, shard) for number, shard in enumerate(shards) if job.makes(number)]
    with job.progress("images", sum(len(shard) for _, shard in own)) as progress:
        for number, shard in own:
            paths = {size: token_shard(job.folder, size, number) for size in preset.all_sizes}
            missing = [size for size, path in paths.items() if not path.exists()]
            if not missing:
                progress.skip(len(shard))
                continue
            codes = encode_shard(tokenizer, images, shard, missing, preset.compute, progress)
            for size in missing:
                paths[size].parent.mkdir(exist_ok=True)
                save_array(paths[size], codes[size])
    return {"images": len(images), "crops": images.crops, "sizes": list(preset.all_sizes)}


def encode_shard(
    tokenizer: Tokenizer,
    images: Images,
    shard: range,
    sizes: Sequence[int],
    compute: Compute,
    progress: Progress,
) -> dict[int, NDArray[np.uint16]]:
    """Return the codes of all crops of these images: size -> (n, crops, size, size)."""
    count, done = len(shard) * images.crops, 0
    codes = {size: np.empty((count, size, size), dtype=np.uint16) for size in sizes}
    pixels = batches(images.all_crops(shard), compute.encoding_batch)
    encoded = (
        {size: receive(grid) for size, grid in encode(tokenizer, part, sizes).items()}
        for part in pixels
    )
    for grids in ahead(encoded, compute.prefetch):
        before = done
        for size, arrived in grids.items():
            grid = arrived().numpy()
            done = before + len(grid)
            codes[size][before:done] = grid
        progress.advance(done // images.crops - before // images.crops)
    return {
        size: found.reshape(len(shard), images.crops, size, size) for size, found in codes.items()
    }
