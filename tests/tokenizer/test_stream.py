"""Codes of ImageNet's crops: in the cache or encoded as they are drawn, they are the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pcb.config import Preset
from pcb.config.images import TEN_CROPS
from pcb.data.images import open_images
from pcb.errors import UserError
from pcb.model.weights import WEIGHTS
from pcb.pipeline.job import ShardGroup
from pcb.runtime.weights import save_weights
from pcb.stages import tokens as module
from pcb.stages.data import run as prepare
from pcb.stages.tokens import run as build
from pcb.stages.train import run
from pcb.tokenizer.cache import TokenCache
from pcb.tokenizer.load import TOKENIZER_FILE, load_tokenizer
from pcb.tokenizer.stream import TokenStream
from pcb.tokenizer.vq import Tokenizer
from pcb.train.batches import Batches
from pcb.train.tokenizer import initialize
from tests.imagenet import TINY, imagenet_preset, write_tree
from tests.tasks import job_of

IMAGES = 17
SIZES = (1, 2, 4)
TRAINING = {"epochs": 1, "batch_size": 5, "precision": "float32"}


def preset_of(root: Path, source: str = "cache", **compute: object) -> Preset:
    settings = {**TINY, "tokens": {"source": source}, "training": TRAINING, "compute": compute}
    return imagenet_preset(root / "train", settings=settings, image_size=64)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A tree, its index, a random tokenizer and the cache of its codes, below one folder."""
    root = tmp_path_factory.mktemp("stream")
    write_tree(root / "train")
    preset = preset_of(root)
    prepare(job_of(preset, "data", root / "data"))
    torch.manual_seed(0)
    tokenizer = Tokenizer(preset.tokenizer.autoencoder)
    initialize(tokenizer)
    (root / "tokenizer").mkdir()
    save_weights(root / "tokenizer" / TOKENIZER_FILE, tokenizer.state_dict())
    make_tokens(root, root / "tokens", preset)
    return root


def make_tokens(root: Path, folder: Path, preset: Preset) -> dict:
    inputs = {"data": root / "data", "tokenizer": root / "tokenizer"}
    return dict(build(job_of(preset, "tokens", folder, **inputs)))


def stream_of(root: Path, batch: int) -> TokenStream:
    preset = preset_of(root)
    tokenizer = load_tokenizer(root / "tokenizer", preset.tokenizer.autoencoder)
    return TokenStream(open_images(root / "data", preset, "train"), tokenizer, SIZES, batch)


def shards(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.npy")}


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_stream_gives_the_codes_of_the_cache_in_any_batch(root, batch):
    cache, stream = TokenCache.open(root / "tokens", SIZES), stream_of(root, batch)
    assert (stream.sizes, stream.crops) == (cache.sizes, TEN_CROPS)
    np.testing.assert_array_equal(stream.labels, cache.labels)
    images, crops = np.arange(IMAGES)[::-1], np.arange(IMAGES) % TEN_CROPS
    expected, found = cache.codes(images, crops), stream.codes(images, crops)
    for size in SIZES:
        assert found[size].dtype == np.int64
        np.testing.assert_array_equal(found[size], expected[size])
    assert len(np.unique(found[4])) > 16


def test_training_batches_are_the_same(root):
    sources = TokenCache.open(root / "tokens", SIZES), stream_of(root, 2)
    settings = preset_of(root).models["s-2x"].training
    one, other = (Batches(s, settings, num_classes=3, codebook_size=64) for s in sources)
    for iteration in (0, 2):
        a, b = one[iteration], other[iteration]
        assert torch.equal(a.labels_B, b.labels_B)
        for size in SIZES:
            assert torch.equal(a.codes[size], b.codes[size])
            assert torch.equal(a.replaced[size], b.replaced[size])


def test_training_ends_with_the_same_weights(root, tmp_path):
    def weights(source: str, **inputs: Path) -> dict[str, torch.Tensor]:
        job = job_of(preset_of(root, source), "train", tmp_path / source, **inputs)
        assert {read.task.stage for read in job.task.inputs} == set(inputs)
        assert run(job)["iterations"] == 3
        return load_file(job.folder / WEIGHTS)

    tokenizer = root / "tokenizer"
    cached = weights("cache", tokens=root / "tokens", tokenizer=tokenizer)
    streamed = weights("images", data=root / "data", tokenizer=tokenizer)
    assert cached.keys() == streamed.keys()
    for name, tensor in cached.items():
        assert torch.equal(streamed[name], tensor), name


def test_the_cache_of_both_layouts_is_the_same(root, tmp_path):
    write_tree(tmp_path / "train", layout="tars")
    (tmp_path / "tokenizer").symlink_to(root / "tokenizer")
    preset = preset_of(tmp_path)
    prepare(job_of(preset, "data", tmp_path / "data"))
    facts = make_tokens(tmp_path, tmp_path / "tokens", preset)
    assert facts == {"images": IMAGES, "crops": TEN_CROPS, "sizes": list(SIZES)}
    assert shards(tmp_path / "tokens") == shards(root / "tokens")


def test_a_cache_that_was_cut_keeps_its_shards_and_ends_the_same(root, tmp_path, monkeypatch):
    saved, save = [], module.save_array

    def dying(path: Path, array: np.ndarray) -> None:
        if len(saved) == 8:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, array)

    monkeypatch.setattr(module, "save_array", dying)
    with pytest.raises(KeyboardInterrupt):
        make_tokens(root, tmp_path / "tokens", preset_of(root))
    monkeypatch.undo()
    before = {path: path.stat().st_ino for path in saved[1:]}
    read, encode_shard = [], module.encode_shard

    def watched(tokenizer, images, shard, sizes, *rest):
        read.append((shard, sizes))
        return encode_shard(tokenizer, images, shard, sizes, *rest)

    monkeypatch.setattr(module, "encode_shard", watched)
    make_tokens(root, tmp_path / "tokens", preset_of(root))
    # Two shards were there, and one scale of the third.
    assert read == [(range(8, 12), [2, 4]), (range(12, 16), [1, 2, 4]), (range(16, 17), [1, 2, 4])]
    assert {path: path.stat().st_ino for path in before} == before
    assert shards(tmp_path / "tokens") == shards(root / "tokens")


def test_jobs_that_share_the_shards_fill_the_same_cache(root, tmp_path, monkeypatch):
    inputs = {"data": root / "data", "tokenizer": root / "tokenizer"}
    job = job_of(preset_of(root), "tokens", tmp_path / "tokens", **inputs)
    for group, shards_made in ((ShardGroup(1, 2), 2), (ShardGroup(0, 2), 5)):
        build(replace(job, shards=group))
        assert len(list((job.folder / "s004").iterdir())) == shards_made
    monkeypatch.setattr(module, "encode_shard", None)
    build(job)
    assert shards(job.folder) == shards(root / "tokens")


def test_a_broken_image_stops_the_cache_with_its_name(root, tmp_path):
    write_tree(tmp_path / "train")
    place = sorted((tmp_path / "train").rglob("*_2.JPEG"))[1]
    place.write_bytes(b"")
    for name in ("tokenizer", "data"):
        (tmp_path / name).symlink_to(root / name)
    with pytest.raises(UserError, match=rf"{place.name}: not the file that the stage `data`"):
        make_tokens(tmp_path, tmp_path / "tokens", preset_of(tmp_path))
    assert len(shards(tmp_path / "tokens")) == 1 + 2 * len(SIZES)
