"""Parts around the transformer: encoding and decoding, features, files, starting the program."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from msgspec.structs import replace
from PIL import Image
from torch import Tensor
from torch.backends.cpu import get_cpu_capability

from benchmarks.machine import Phase, Precision
from benchmarks.measure import BASELINE, FAST, Case, Part, Scope, single
from pcb.config import Autoencoder, Compute, Files, Preset
from pcb.config.images import TEN_CROPS
from pcb.config.loader import load_preset
from pcb.data.arrays import save_array, to_uint8
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

if TYPE_CHECKING:
    from pcb.metrics.inception import Inception

_DECODED_BATCHES = 4
"""Batches that are decoded and seen in a row: the first has nothing to be made beside."""
_JPEG_SIZE, _JPEG_GRAIN = (500, 375), 24.0
"""Width and height of many of ImageNet's files, and the grain that gives a file their length."""
READ, _CACHE_SHARDS = 64, 4
"""Images whose codes are read at once, and shards that they are read from."""
_EXACT: tuple[Precision, ...] = ("float32", "tf32")
_HALF: tuple[Precision, ...] = ("bfloat16", "float16")


def parts(scope: Scope) -> Iterator[Part]:
    """Yield the parts of all stages but training and sampling."""
    yield from _tokenizer_parts(scope)
    # Machines with a fixed set of packages lack some, and can measure all but that.
    if find_spec("torch_fidelity"):
        yield from _feature_parts(scope)
    images = 512 if scope == "quick" else 8192
    yield Part(name="loading/tokens", make=partial(read_tokens, images))
    threads = {"quick": (1,), "short": (1, 2), "full": (1, 4, 16)}[scope]
    for workers in threads if find_spec("pandas") else ():
        files = 4 if scope == "quick" else 32 * workers
        yield Part(name=f"loading/jpeg/w{workers}", make=partial(_read_jpegs, files, workers))
    sizes, order = scale_sizes(16, 2.0), partial(checkerboard_order, 16)

    def schedule() -> object:
        return sequence_of(schedule_from_total(sizes, 17))

    yield Part(name="program/order", item="orders", make=lambda _: single(order))
    yield Part(name="program/schedule", item="schedules", make=lambda _: single(schedule))
    yield Part(name="program/help", item="starts", make=partial(_start, "pcb --help"))
    if scope != "quick" and find_spec("snakemake"):
        command = "snakemake -n --quiet all --cores 1"
        yield Part(name="program/dry-run", item="starts", make=partial(_start, command))


def _tokenizer_parts(scope: Scope) -> Iterator[Part]:
    """Yield encoding and decoding, of the miniature's size, and of the paper's where it fits.

    `tf32` is of all convolutions; 16 bits are of the decoder alone.
    """
    one, two = _EXACT[:1], (*_EXACT[:1], *_HALF[:1])
    # Narrower CPUs emulate 16 bits: an image takes minutes.
    feasible = two if "AVX512" in get_cpu_capability() else one
    chosen: dict[Scope, list[tuple[str, int, Sequence[Precision], Sequence[Precision]]]] = {
        # preset, batch, precisions of the encoder, and of the decoder
        "quick": [("mini", 2, (), two)],
        "short": [("mini", 16, one, one), ("paper", 1, one, feasible)],
        "full": [("paper", batch, _EXACT, (*_EXACT, *_HALF)) for batch in (64, 256)],
    }
    for preset, batch, encoded, decoded in chosen[scope]:
        encode, decode = partial(_encode, preset, batch), partial(_decode, preset, batch)
        yield from _in_each(encoded, f"tokenizer/encode/{preset}/b{batch}", encode, "encoding")
        yield from _in_each(decoded, f"tokenizer/decode/{preset}/b{batch}", decode, "decoding")


def _in_each(
    precisions: Iterable[Precision], name: str, make: Callable[..., Case], kind: Kind | None = None
) -> Iterator[Part]:
    """Yield a part for each precision, which `make` takes before the device."""
    for precision in precisions:
        yield Part(
            name=name if precision == "float32" else f"{name}-{precision}",
            make=partial(make, precision),
            precision=precision,
            kind=kind,
        )


def _encode(name: str, batch: int, precision: Precision, device: torch.device) -> Case:
    """Encode images at all scales of a 2x model."""
    preset = load_preset(name)
    settings, sizes = preset.tokenizer.autoencoder, scale_sizes(preset.grid, 2.0)
    tokenizer, pixels = random_tokenizer(settings, device), preset.grid * settings.stride
    images = torch.rand(batch, 3, pixels, pixels, device=device) * 2 - 1
    encode = torch.inference_mode()(lambda: tokenizer.codes(images, sizes))
    phases = [phase_of(flops.encode, settings, size, batch, precision) for size in sizes]
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
        phases=[phase_of(flops.decode, settings, size, batch, precision)],
        compare=compare,
    )


def random_tokenizer(
    settings: Autoencoder, device: torch.device, precision: Precision = "float32"
) -> Tokenizer:
    """Return a tokenizer with random weights, the same ones each time, on a device.

    `precision` is its decoder's.
    """
    torch.manual_seed(0)
    tokenizer = Tokenizer(settings).to(device).eval().requires_grad_(False)
    if precision in _HALF:
        tokenizer.round_decoder_to(DTYPES[precision])
    return tokenizer


def phase_of(
    work: Callable[..., int], settings: Autoencoder, size: int, batch: int, precision: Precision
) -> Phase:
    """Return the phase of `flops.encode` or `flops.decode` for a batch of `size` x `size` codes.

    Weights, images and code vectors are read once. What passes between layers is not counted: a
    bound that no program reaches.
    """
    weights = flops.autoencoder_weights(settings) // 2
    values = 3 * (size * settings.stride) ** 2 + size * size * settings.code_dim
    value_bytes = 2 if precision in _HALF else 4
    moved = value_bytes * (weights + batch * values)
    return Phase(flops=batch * work(settings, size), bytes=moved)


def _feature_parts(scope: Scope) -> Iterator[Part]:
    """Yield the extraction of features, alone and behind the decoder, at batches of `metrics`."""
    for batch in {"quick": (), "short": (4,), "full": (64, 250)}[scope]:
        make = partial(_extract, batch)
        yield Part(name=f"features/inception/b{batch}", make=make, kind="features")
    preset, batch = {"quick": ("mini", 8), "short": ("mini", 250), "full": ("paper", 64)}[scope]
    precisions = (*_EXACT, *_HALF[:1]) if scope == "full" else _EXACT[:1]
    score = partial(_decode_and_extract, preset, batch)
    yield from _in_each(precisions, f"features/decoded/{preset}/b{batch}", score)


def _extract(batch: int, device: torch.device) -> Case:
    """Extract the features of random images with random weights."""
    inception = _untrained_inception(device)
    pixels = torch.randint(256, (batch, 3, 256, 256), dtype=torch.uint8, device=device)
    weights = sum(weight.numel() for weight in inception.network.parameters())
    phase = Phase(flops=batch * flops.INCEPTION, bytes=4 * (weights + pixels.numel()))
    return single(torch.inference_mode()(partial(inception, pixels)), batch, [phase])


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

    if settings.classifier is None:
        return _untrained_inception(device)
    torch.manual_seed(0)
    classifier = Classifier(settings.data.num_classes, settings.classifier.features)
    classifier = classifier.to(device).eval().requires_grad_(False)
    return lambda pixels_B3HW: Layers(*classifier(pixels_B3HW))


def _untrained_inception(device: torch.device) -> "Inception":
    """Return torch-fidelity's network as it is made, before weights are read into it."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from pcb.metrics.inception import LAYERS, NETWORK, Inception

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            """Read nothing."""

    torch.manual_seed(0)
    with tempfile.NamedTemporaryFile(prefix="pcb-bench-") as file:
        torch.save({}, file.name)
        network = Untrained(NETWORK, LAYERS, feature_extractor_weights_path=file.name)
    return Inception(network.to(device).eval())


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


def _read_jpegs(images: int, workers: int, _: torch.device) -> Case:
    """Decode images of ImageNet's size and cut their ten crops, with so many threads."""
    from pcb.data.images import TRAIN_INDEX, open_images
    from pcb.data.index import COLUMNS, write_rows
    from pcb.data.survey import examine
    from pcb.data.tree import File

    folder, random = tempfile.TemporaryDirectory(prefix="pcb-bench-"), np.random.default_rng(0)
    root = Path(folder.name)
    found = [File(path=f"{image}.JPEG", label=0) for image in range(images)]
    for file in found:
        _grainy(random).save(root / file.path, quality=90)
    write_rows(root / TRAIN_INDEX, COLUMNS, (examine(root, file)[:-1] for file in found))
    here, compute = Files(imagenet=folder.name), Compute(workers=workers)
    files = open_images(root, replace(load_preset("paper"), files=here, compute=compute), "train")

    def decode(kept: object = folder) -> object:
        """Take all crops of all images; `kept` keeps the folder while this can be called."""
        return sum(len(crops) for crops in files.all_crops(range(images)))

    return single(decode, images)


def _grainy(random: np.random.Generator) -> Image.Image:
    """Return an image of smooth color with grain."""
    colors = Image.fromarray(random.integers(256, size=(6, 8, 3)).astype(np.uint8))
    smooth = np.asarray(colors.resize(_JPEG_SIZE, Image.Resampling.BICUBIC))
    pixels = smooth + random.normal(0, _JPEG_GRAIN, smooth.shape)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def _start(command: str, _: torch.device) -> Case:
    """Run a module of Python's in the working directory, on the smallest preset."""
    words, where = [sys.executable, "-m", *command.split()], {**os.environ, "PCB_PRESET": "smoke"}
    return single(partial(subprocess.run, words, check=True, capture_output=True, env=where))
