"""Parts around the transformer: encoding and decoding, features, files, starting the program."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from msgspec.structs import replace
from PIL import Image
from torch import Tensor, nn
from torch.backends.cpu import get_cpu_capability

from benchmarks.machine import Phase
from benchmarks.measure import BASELINE, FAST, Case, Part, Precision, single
from pcb.config import Autoencoder, Compute, Files, Preset
from pcb.config.images import TEN_CROPS
from pcb.config.loader import load_preset
from pcb.data.arrays import save_array, to_uint8
from pcb.data.images import TRAIN_INDEX, open_images
from pcb.data.index import COLUMNS, write_rows
from pcb.data.survey import examine
from pcb.data.tree import File
from pcb.metrics.features import Extractor, Features, Layers, extract
from pcb.model.sequence import sequence_of
from pcb.order.allocation import schedule_from_total
from pcb.order.checkerboard import checkerboard_order
from pcb.order.schedule import scale_sizes
from pcb.preflight import flops
from pcb.preflight.rates import Kind
from pcb.runtime.device import DTYPES
from pcb.tokenizer.cache import LABELS, TokenCache, token_shard
from pcb.tokenizer.vq import Tokenizer

_DECODED_BATCHES = 4
"""Batches that are decoded and seen in a row: the first has nothing to be made beside."""
_JPEG_SIZE, _JPEG_NOISE = (500, 375), 24.0
"""Width and height of many of ImageNet's files, and the noise that gives a file their length."""
READ, _CACHE_SHARDS = 64, 4
"""Images whose codes are read at once, and shards that they are read from."""
_ONE: tuple[Precision, ...] = ("float32",)
_EXACT: tuple[Precision, ...] = ("float32", "tf32")
_HALF: tuple[Precision, ...] = ("bfloat16", "float16")
Row = tuple[str, Kind | None, Callable[..., Case], str, Sequence[int], Sequence[Precision]]
"""Name and kind of parts, what makes them ready, and of what: preset, batches and precisions."""


def parts(device: torch.device) -> Iterator[Part]:
    """Yield the parts of all stages but training and sampling, of the paper's size where it fits.

    `tf32` is of all convolutions; 16 bits are of the decoder alone.
    """
    gpu, three, all_four = device.type == "cuda", (*_EXACT, "bfloat16"), (*_EXACT, *_HALF)
    # Narrower CPUs emulate 16 bits: an image takes minutes.
    feasible = (*_ONE, "bfloat16") if "AVX512" in get_cpu_capability() else _ONE
    table: list[Row] = [
        ("tokenizer/encode/mini", "encoding", _encode, "mini", (16,), _ONE),
        ("tokenizer/decode/mini", "decoding", _decode, "mini", (16,), _ONE),
        ("tokenizer/encode/paper", "encoding", _encode, "paper", (1,), _ONE),
        ("tokenizer/decode/paper", "decoding", _decode, "paper", (1,), feasible),
        ("features/inception", "features", _extract, "paper", (4,), _ONE),
        ("features/decoded/mini", None, _decode_and_extract, "mini", (250,), _ONE),
    ]
    if gpu:
        table = [
            ("tokenizer/encode/paper", "encoding", _encode, "paper", (64, 256), _EXACT),
            ("tokenizer/decode/paper", "decoding", _decode, "paper", (64, 256), all_four),
            ("features/inception", "features", _extract, "paper", (64, 250), _ONE),
            ("features/decoded/paper", None, _decode_and_extract, "paper", (64,), three),
        ]
    for name, kind, make, preset, batches, precisions in table:
        for batch, precision in product(batches, precisions):
            suffix = "" if precision == "float32" else f"-{precision}"
            case = partial(make, preset, batch, precision)
            yield Part(f"{name}/b{batch}{suffix}", case, precision=precision, kind=kind)
    yield Part("loading/tokens", partial(read_tokens, 8192))
    for workers in (1, 4, 16) if gpu else (1, 2):
        yield Part(f"loading/jpeg/w{workers}", partial(_read_jpegs, workers))
    sizes, order = scale_sizes(16, 2.0), partial(checkerboard_order, 16)
    yield Part("program/order", lambda _: single(order), "orders")

    def schedule() -> object:
        return sequence_of(schedule_from_total(sizes, 17))

    yield Part("program/schedule", lambda _: single(schedule), "schedules")
    yield Part("program/help", partial(_start, "pcb --help"), "starts")
    yield Part("program/dry-run", partial(_start, "snakemake -n --quiet all --cores 1"), "starts")


def _encode(name: str, batch: int, precision: Precision, device: torch.device) -> Case:
    """Encode images at all scales of a 2x model."""
    preset = load_preset(name)
    settings, sizes = preset.tokenizer.autoencoder, scale_sizes(preset.grid, 2.0)
    tokenizer, pixels = random_tokenizer(settings, device), preset.grid * settings.stride
    images = torch.rand(batch, 3, pixels, pixels, device=device) * 2 - 1
    encode = torch.inference_mode()(lambda: tokenizer.codes(images, sizes))
    phases = [Phase(flops=batch * flops.encode(settings, size)) for size in sizes]
    return single(encode, batch, phases)


def _decode(name: str, batch: int, precision: Precision, device: torch.device) -> Case:
    """Decode the finest codes to pixels; 16 bits have float32 beside them."""
    preset = load_preset(name)
    settings, size = preset.tokenizer.autoencoder, preset.grid
    codes = torch.randint(settings.codebook_size, (batch, size, size), device=device)

    def pixels(precision: Precision) -> Callable[[], Tensor]:
        tokenizer = random_tokenizer(settings, device, precision)
        return torch.inference_mode()(lambda: to_uint8(tokenizer.decode(codes)))

    def compare(one: Tensor, other: Tensor) -> dict[str, float]:
        levels = (one.int() - other.int()).abs().double()
        return {"gray levels": float(levels.mean()), "at most": float(levels.max())}

    exact = {"float32": pixels("float32")} if precision in _HALF else {}
    return Case(
        variants={FAST: pixels(precision), **exact},
        items=batch,
        phases=[Phase(flops=batch * flops.decode(settings, size))],
        compare=compare,
    )


def random_tokenizer(
    settings: Autoencoder, device: torch.device, precision: Precision = "float32"
) -> Tokenizer:
    """Return a tokenizer with the same random weights each time; `precision` is its decoder's."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(settings).to(device).eval().requires_grad_(False)
    if precision in _HALF:
        tokenizer.round_decoder_to(DTYPES[precision])
    return tokenizer


def _extract(name: str, batch: int, _: Precision, device: torch.device) -> Case:
    """Extract the features of random images with Inception, in float32."""
    extractor = random_extractor(load_preset(name), device)
    pixels = torch.randint(256, (batch, 3, 256, 256), dtype=torch.uint8, device=device)
    see = torch.inference_mode()(partial(extractor, pixels))
    return single(see, batch, [Phase(flops=batch * flops.INCEPTION)])


def _decode_and_extract(name: str, batch: int, precision: Precision, device: torch.device) -> Case:
    """Decode random codes and extract their features, the next batch made beside this one or not.

    There is no bound: features and pixels are not of one precision.
    """
    from pcb.stages.metrics import decoded

    preset = load_preset(name)
    codes, shape = preset.tokenizer.autoencoder, (_DECODED_BATCHES * batch, *2 * [preset.grid])
    codes_Bij = np.random.default_rng(0).integers(codes.codebook_size, size=shape, dtype=np.uint16)
    tokenizer = random_tokenizer(codes, device, precision)
    extractor = random_extractor(preset, device)

    def score(prefetch: int) -> Features:
        return extract(extractor, decoded(tokenizer, codes_Bij, batch), lambda _: None, prefetch)

    def compare(one: Features, other: Features) -> dict[str, float]:
        return {"features": float((one.pool - other.pool).abs().max())}

    return Case(
        variants={FAST: partial(score, preset.compute.prefetch), BASELINE: partial(score, 0)},
        items=len(codes_Bij),
        compare=compare,
    )


def random_extractor(settings: Preset, device: torch.device) -> Extractor:
    """Return a preset's extractor with random weights."""
    from pcb.metrics.classifier import Classifier
    from pcb.metrics.inception import Inception

    if settings.classifier is None:
        return Inception(untrained_inception().to(device))
    torch.manual_seed(0)
    classifier = Classifier(settings.data.num_classes, settings.classifier.features)
    classifier = classifier.to(device).eval().requires_grad_(False)
    return lambda pixels_B3HW: Layers(*classifier(pixels_B3HW))


def untrained_inception() -> nn.Module:
    """Return torch-fidelity's network as it is made, before weights are read into it."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    from pcb.metrics.inception import LAYERS, NETWORK

    torch.manual_seed(0)
    with (
        patch.multiple(module, load_state_dict_from_url=lambda *_, **__: {}),
        patch.object(nn.Module, "load_state_dict"),
    ):
        return module.FeatureExtractorInceptionV3(NETWORK, LAYERS)


class RandomCache(TokenCache):
    """A token cache of random codes, on disk for as long as this object is there."""

    def __init__(self, sizes: Sequence[int], images: int, crops: int, codes: int) -> None:
        """Write codes from 0 to `codes` - 1 of so many images."""
        self._temporary = tempfile.TemporaryDirectory(prefix="pcb-bench-")
        root, random = Path(self._temporary.name), np.random.default_rng(0)
        save_array(root / LABELS, np.zeros(images, np.int64))
        for size, shard in product(sizes, range(_CACHE_SHARDS)):
            shape = (images // _CACHE_SHARDS, crops, size, size)
            save_array(token_shard(root, size, shard), random.integers(0, codes, shape, np.uint16))
        cache = TokenCache.open(root, sizes)
        super().__init__(cache.labels, cache.shards)


def read_tokens(images: int, _: torch.device) -> Case:
    """Read random crops of `READ` random images, of a cache of random codes that is made for it.

    The cache is small and new, so the system holds it in memory: this is the program's own time.
    """
    preset, random = load_preset("paper"), np.random.default_rng(0)
    codes = preset.tokenizer.autoencoder.codebook_size
    cache = RandomCache(preset.sizes("l-2x"), images, TEN_CROPS, codes)

    def read() -> object:
        return cache.codes(random.integers(0, images, READ), random.integers(0, TEN_CROPS, READ))

    return single(read, READ)


def _read_jpegs(workers: int, _: torch.device) -> Case:
    """Decode images of ImageNet's size and cut their ten crops, with so many threads."""
    folder, images = tempfile.TemporaryDirectory(prefix="pcb-bench-"), 32 * workers
    root = Path(folder.name)
    found = [File(path=f"{image}.JPEG", label=0) for image in range(images)]
    for file in found:
        bands = [Image.effect_noise(_JPEG_SIZE, _JPEG_NOISE) for _ in "RGB"]
        Image.merge("RGB", bands).save(root / file.path, quality=90)
    write_rows(root / TRAIN_INDEX, COLUMNS, (examine(root, file)[:-1] for file in found))
    here, compute = Files(imagenet=folder.name), Compute(workers=workers)
    files = open_images(root, replace(load_preset("paper"), files=here, compute=compute), "train")

    def decode(kept: object = folder) -> object:
        """Take all crops of all images; `kept` keeps the folder while this can be called."""
        return sum(len(crops) for crops in files.all_crops(range(images)))

    return single(decode, images)


def _start(command: str, _: torch.device) -> Case:
    """Run a module of Python's in the working directory, on the smallest preset."""
    words, where = [sys.executable, "-m", *command.split()], {**os.environ, "PCB_PRESET": "smoke"}
    return single(partial(subprocess.run, words, check=True, capture_output=True, env=where))
