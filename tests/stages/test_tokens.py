"""The stage `tokens`: shards that are there stay, and codes belong to the image alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pcb.config import Compute
from pcb.config.loader import parse_preset, plain
from pcb.data.arrays import save_array
from pcb.data.images import TRAIN_IMAGES, TRAIN_LABELS, ArrayImages
from pcb.pipeline.job import Job
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.progress import Progress
from pcb.runtime.weights import save_weights
from pcb.stages.tokens import encode_shard, run
from pcb.tokenizer.cache import TokenCache
from pcb.tokenizer.load import TOKENIZER_FILE, load_tokenizer
from pcb.tokenizer.vq import Tokenizer
from pcb.train.tokenizer import initialize
from tests.models import TINY_AUTOENCODER

IMAGES, CROPS = 10, 3
AUTOENCODER = {**plain(TINY_AUTOENCODER), "codebook_size": 64}


def params(models: Mapping[str, float], **compute: object) -> dict:
    return {
        "presets": {
            "tiny": {
                "description": "a token cache of a few images",
                "data": {"kind": "digits"},
                "tokenizer": {"autoencoder": AUTOENCODER, "training": {"iterations": 1}},
                "tokens": {"shard_images": 4},
                "model": {"width": 32, "heads": 2, "layers": 2, "hidden": 32},
                "training": {"epochs": 1},
                "models": {name: {"model": {"scale_ratio": r}} for name, r in models.items()},
                "sampling": {},
                "sweep": [{"models": list(models), "blocks": [1]}],
                "metrics": {"extractor": "inception"},
                "compute": {"threads": 1, "device": "cpu", **compute},
            }
        }
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Random images, and a random tokenizer whose codes they use."""
    folder = tmp_path_factory.mktemp("inputs")
    pixels = np.random.default_rng(0).integers(256, size=(IMAGES, CROPS, 3, 32, 32))
    save_array(folder / TRAIN_IMAGES, pixels.astype(np.uint8))
    save_array(folder / TRAIN_LABELS, np.arange(IMAGES))
    torch.manual_seed(0)
    tokenizer = Tokenizer(parse_preset(params({"r2": 2}), "tiny").tokenizer.autoencoder)
    initialize(tokenizer)
    save_weights(folder / TOKENIZER_FILE, tokenizer.state_dict())
    return {"data": folder, "tokenizer": folder}


def make(folder: Path, inputs: dict[str, Path], models: Mapping[str, float], **compute) -> dict:
    preset = parse_preset(params(models, **compute), "tiny")
    task = Pipeline("tiny", preset).task("tokens")
    progress = partial(Progress, "tokens")
    folder.mkdir(exist_ok=True)
    job = Job(task=task, preset=preset, folder=folder, inputs=inputs, progress=progress)
    return dict(run(job))


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes())
        for path in sorted(folder.rglob("*.npy"))
        if path.name != "labels.npy"
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {name: data for name, (_, data) in files(folder).items()}


def test_the_cache_holds_the_codes_of_every_crop(tmp_path, inputs):
    facts = make(tmp_path / "a", inputs, {"r2": 2})
    assert facts == {"images": IMAGES, "crops": CROPS, "sizes": [1, 2, 4, 8]}
    cache = TokenCache.open(tmp_path / "a", (1, 2, 4, 8))
    images, crops = np.arange(IMAGES), np.arange(IMAGES) % CROPS
    found = cache.codes(images, crops)
    preset = parse_preset(params({"r2": 2}), "tiny")
    tokenizer = load_tokenizer(inputs["tokenizer"], preset.tokenizer.autoencoder)
    pixels = torch.from_numpy(np.load(inputs["data"] / TRAIN_IMAGES)[images, crops])
    for size, codes in tokenizer.codes(pixels / 127.5 - 1, (1, 2, 4, 8)).items():
        np.testing.assert_array_equal(found[size], codes.numpy())
    assert len(np.unique(found[8])) > 16
    np.testing.assert_array_equal(cache.labels, np.arange(IMAGES))


def test_an_interrupted_cache_keeps_its_shards_and_ends_the_same(tmp_path, inputs):
    make(tmp_path / "whole", inputs, {"r2": 2})
    make(tmp_path / "cut", inputs, {"r2": 2})
    for name in ("s004/00001.npy", "s004/00002.npy", "s008/00002.npy"):
        (tmp_path / "cut" / name).unlink()
    kept = files(tmp_path / "cut")
    make(tmp_path / "cut", inputs, {"r2": 2})
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert kept.items() <= files(tmp_path / "cut").items()


def test_a_new_scale_leaves_the_others_untouched(tmp_path, inputs):
    make(tmp_path / "a", inputs, {"r2": 2})
    before = files(tmp_path / "a")
    make(tmp_path / "a", inputs, {"r2": 2, "r3": 3})
    after = files(tmp_path / "a")
    assert before.items() <= after.items()
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"s003"}


@pytest.mark.parametrize(
    "compute", [{"encoding_batch": 1}, {"encoding_batch": 3}, {"encoding_batch": 16, "prefetch": 0}]
)
def test_codes_do_not_depend_on_how_they_are_computed(tmp_path, inputs, compute):
    make(tmp_path / "a", inputs, {"r3": 3})
    make(tmp_path / "b", inputs, {"r3": 3}, **compute)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_codes_do_not_depend_on_the_shard(inputs):
    preset = parse_preset(params({"r2": 2}), "tiny")
    tokenizer = load_tokenizer(inputs["tokenizer"], preset.tokenizer.autoencoder)
    images = ArrayImages(np.load(inputs["data"] / TRAIN_IMAGES), np.arange(IMAGES))

    compute = Compute(encoding_batch=7)

    def codes(shard: range) -> dict[int, np.ndarray]:
        return encode_shard(
            tokenizer, images, shard, [2, 8], compute, Progress("tokens", "images", 10)
        )

    whole = codes(range(IMAGES))
    for cut in (1, 7):
        parts = [codes(range(cut)), codes(range(cut, IMAGES))]
        for size, grid in whole.items():
            np.testing.assert_array_equal(grid, np.concatenate([part[size] for part in parts]))
