"""Parts that read from disk what training and the token cache read."""

import tempfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.case import FAST, Case, Part, Scope
from benchmarks.standins import RandomCache
from pcb.config import ImageNet
from pcb.config.images import TEN_CROPS
from pcb.config.loader import load_preset
from pcb.data.imagenet import FileImages
from pcb.data.index import Index

_JPEG_SIZE = (500, 375)
"""Width and height of many of ImageNet's files, and the grain that gives a file their length."""
_GRAIN = 24.0


def parts(scope: Scope) -> Iterator[Part]:
    """Yield the token cache, at the batch of a training iteration on one GPU, and JPEG files."""
    images = 512 if scope == "quick" else 8192
    yield Part(name="loading/tokens", item="images", make=partial(read_tokens, images, 64))
    threads = {"quick": (1,), "short": (1, 2), "full": (1, 4, 16)}[scope]
    for workers in threads:
        files = 4 if scope == "quick" else 32 * workers
        make = partial(_jpegs, files, workers)
        yield Part(name=f"loading/jpeg/w{workers}", item="images", make=make)


def read_tokens(images: int, batch: int, _: torch.device) -> Case:
    """Read random crops of random images, of a cache of random codes that is made for it.

    The cache is small and new, so the system holds it in memory: this is the program's own time.
    """
    preset, random = load_preset("paper"), np.random.default_rng(0)
    codes = preset.tokenizer.autoencoder.codebook_size
    cache = RandomCache(preset.sizes("l-2x"), images=images, crops=TEN_CROPS, codes=codes)

    def read() -> object:
        return cache.codes(random.integers(0, images, batch), random.integers(0, TEN_CROPS, batch))

    return Case(variants={FAST: read}, items=batch, settings={"batch": batch, "images": images})


def _jpegs(images: int, workers: int, _: torch.device) -> Case:
    """Decode images of ImageNet's size and cut their ten crops, with so many threads."""
    folder = tempfile.TemporaryDirectory(prefix="pcb-bench-")
    root, random = Path(folder.name), np.random.default_rng(0)
    contents = []
    for image in range(images):
        path = root / f"{image}.JPEG"
        _grainy(random).save(path, quality=90)
        contents.append(path.read_bytes())
    index = Index(
        paths=np.array([f"{image}.JPEG" for image in range(images)], dtype=object),
        labels=np.zeros(images, np.int64),
        offsets=np.zeros(images, np.int64),
        bytes=np.array([len(data) for data in contents]),
        checksums=np.array([zlib.crc32(data) for data in contents]),
    )
    data = load_preset("paper").data
    assert isinstance(data, ImageNet)
    files = FileImages(
        root, index, side=data.side, size=data.image_size, crops=TEN_CROPS, workers=workers
    )

    def decode(kept: object = folder) -> object:
        """Take all crops of all images; `kept` keeps the folder while this can be called."""
        return sum(len(crops) for crops in files.all_crops(range(images)))

    mean = round(float(index.bytes.mean()))
    return Case(variants={FAST: decode}, items=images, settings={"workers": workers, "bytes": mean})


def _grainy(random: np.random.Generator) -> Image.Image:
    """Return an image of smooth colour with grain."""
    colours = Image.fromarray(random.integers(256, size=(6, 8, 3)).astype(np.uint8))
    smooth = np.asarray(colours.resize(_JPEG_SIZE, Image.Resampling.BICUBIC))
    pixels = smooth + random.normal(0, _GRAIN, smooth.shape)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
