"""The stage `tokens`: codes of every training image, and of held-out ones, at the scales in use.

Shards have fixed boundaries and each scale its own folder, so that adding a scale rewrites nothing;
a shard that is there is finished, so that an interrupted run continues. Memory holds the pixels of
a few batches and the codes of one shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcb.config import Compute, Data, ImageFolder, ImageNet, Preset
from pcb.data.arrays import save_array
from pcb.data.folder import HELD_OUT
from pcb.data.images import ChosenImages, Images, Split, class_by_class, open_images
from pcb.errors import UserError
from pcb.pipeline.job import Job
from pcb.runtime.device import compute_exactly, pick_device, receive
from pcb.runtime.prefetch import prefetched
from pcb.runtime.progress import Progress
from pcb.tokenizer.cache import LABELS, token_folder, token_shard
from pcb.tokenizer.encode import batches, encode
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.vq import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Images first..last of a split, at the scales of that split."""

    split: Split
    images: Images
    sizes: tuple[int, ...]
    number: int
    indices: range

    def paths(self, folder: Path) -> dict[int, Path]:
        """Return the file of each scale."""
        return {size: token_shard(folder, size, self.number, self.split) for size in self.sizes}


def run(job: Job) -> dict[str, Any]:
    """Encode what is not there yet."""
    preset, data = job.preset, job.inputs["data"]
    device = pick_device(preset.compute)
    compute_exactly(device, preset.compute.threads, tf32=preset.tokenizer.tf32)
    tokenizer = load_tokenizer(job.inputs["tokenizer"], preset.tokenizer.autoencoder).to(device)
    images = open_images(data, preset, "train")
    sizes = preset.all_sizes if preset.tokens.source == "cache" else ()
    step = preset.tokens.shard_images
    shards = list(shards_of("train", images, sizes, step)) if sizes else []
    results = {"images": len(images), "crops": images.crops, "sizes": list(sizes)}
    if job.whole and sizes:
        save_array(job.folder / LABELS, images.labels)
    if preset.likelihood_sizes:
        held_out = held_out_images(data, preset)
        shards += shards_of("held_out", held_out, preset.likelihood_sizes, step)
        results["held_out_images"] = len(held_out)
        for size in preset.likelihood_sizes if job.whole else ():
            save_array(token_folder(job.folder, size, "held_out") / LABELS, held_out.labels)
    own = [shard for k, shard in enumerate(shards) if job.makes(k)]
    with job.progress("images", sum(len(shard.indices) for shard in own)) as progress:
        for shard in own:
            paths = shard.paths(job.folder)
            missing = [size for size, path in paths.items() if not path.exists()]
            if not missing:
                progress.skip(len(shard.indices))
                continue
            codes = encode_shard(
                tokenizer, shard.images, shard.indices, missing, preset.compute, progress
            )
            for size in missing:
                paths[size].parent.mkdir(exist_ok=True)
                save_array(paths[size], codes[size])
    return results


def held_out_images(data: Path, preset: Preset) -> Images:
    """Return the held-out images of which the likelihood is measured, `data` the stage's folder.

    Raises UserError if there are too few.
    """
    assert preset.likelihood is not None
    images, asked = open_images(data, preset, "held_out"), preset.likelihood.images
    if len(images) < (asked or 1):
        raise UserError(
            f"{data}: {len(images)} held-out images, and likelihood.images = {asked or 'null'} "
            f"asks for {asked or 'all'}; {_more_held_out(preset.data)}, or set `likelihood` to null"
        )
    return images if asked is None else ChosenImages(images, class_by_class(images.labels, asked))


def _more_held_out(data: Data) -> str:
    """Return what a user does to have more held-out images."""
    if isinstance(data, ImageNet):
        return (
            "let files.imagenet_validation name the validation images and make the stage `data` "
            "again"
        )
    if isinstance(data, ImageFolder):
        return f"raise data.held_out, or add images to {data.folder}/{HELD_OUT} if it is there"
    return "raise data.reference_images"


def shards_of(split: Split, images: Images, sizes: tuple[int, ...], step: int) -> Iterator[Shard]:
    """Yield the shards of a split, of fixed boundaries."""
    for number, start in enumerate(range(0, len(images), step)):
        indices = range(start, min(start + step, len(images)))
        yield Shard(split=split, images=images, sizes=sizes, number=number, indices=indices)


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
    for grids in prefetched(encoded, compute.prefetch):
        before = done
        for size, arrived in grids.items():
            grid = arrived().numpy()
            done = before + len(grid)
            codes[size][before:done] = grid
        progress.advance(done // images.crops - before // images.crops)
    return {
        size: found.reshape(len(shard), images.crops, size, size) for size, found in codes.items()
    }
