"""Features kept part by part: interrupted anywhere and continued, they are those of one pass."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import pcb.metrics.parts as parts
from pcb.metrics.features import Layers, extract
from pcb.metrics.image_files import open_images
from pcb.metrics.parts import Extraction, tensors
from pcb.runtime.progress import Progress
from tests.inception import random_images

CPU = torch.device("cpu")
COUNT, BATCH, PART = 17, 2, 4
"""Five parts: 4, 4, 4, 4 and 1 images."""


class Extractor:
    """Sees little, counts what it has seen, and is interrupted once it has seen `limit` images."""

    def __init__(self, limit=None):
        self.seen, self.limit = 0, limit
        random = np.random.default_rng(0)
        self.weights = torch.from_numpy(random.normal(size=(16 * 16 * 3, 7))).float()

    def __call__(self, pixels):
        if self.limit is not None and self.seen >= self.limit:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        pool = (pixels.flatten(1).float() / 255) @ self.weights
        return Layers(pool, pool[:, :3] ** 2, pool[:, 2:].abs())


@pytest.fixture(autouse=True)
def small(folder, monkeypatch):
    """Parts of a few images, in an empty folder."""
    monkeypatch.setattr(parts, "PART_IMAGES", PART - 1)


@pytest.fixture(params=["npz", "folder"])
def path(request, folder):
    """The same images in both forms."""
    return write(folder / ("images.npz" if request.param == "npz" else "images"))


def write(path, seed=0):
    pixels = random_images(COUNT, seed=seed)
    if path.suffix:
        np.savez(path, pixels)
    else:
        path.mkdir(exist_ok=True)
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(path / f"{number:03d}.png")
    return path


def run(path, limit=None, progress=None, **changes):
    """Extract; return the features and how many images were seen."""
    ways = {"weights": "abc", "batch": BATCH, "device": CPU, "folder": path.parent / "kept"}
    extraction = Extraction(extractor=Extractor(limit), **(ways | changes))
    progress = progress or Progress("test", "images", COUNT)
    try:
        return extraction.run(open_images(path), progress), extraction.extractor.seen
    except KeyboardInterrupt:
        return None, extraction.extractor.seen


def files(path):
    return sorted((path.parent / "kept").glob("*/*"))


def bytes_of(features):
    sums = features.spatial
    tensors = (features.pool, features.logits, sums.total, sums.products)
    return [sums.count, *(tensor.numpy().tobytes() for tensor in tensors)]


def test_parts_join_to_what_one_pass_sees(path):
    found, seen = run(path)
    whole = extract(Extractor(), tensors(open_images(path), BATCH, CPU), lambda n: None)
    assert seen == COUNT
    assert [file.name for file in files(path)] == [f"{number:05d}.npz" for number in range(5)]
    assert bytes_of(found)[1:3] == bytes_of(whole)[1:3]
    assert found.spatial.count == COUNT
    torch.testing.assert_close(found.spatial.products, whole.spatial.products)


@pytest.mark.parametrize("limit", [0, 2, 4, 6, 16])
def test_an_interrupted_pass_goes_on_behind_its_last_part(path, limit):
    expected = bytes_of(run(path, folder=path.parent / "elsewhere")[0])
    assert run(path, limit) == (None, limit)
    there = limit // PART * PART
    progress = Progress("test", "images", COUNT)
    found, seen = run(path, progress=progress)
    assert seen == COUNT - there
    assert (progress.done, progress._skipped) == (COUNT, there)
    assert bytes_of(found) == expected
    again, seen = run(path)
    assert seen == 0
    assert bytes_of(again) == expected


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    # The first feature's first byte, behind the header of its array.
    data[data.index(b"\n") + 1] ^= 1
    path.write_bytes(data)


def from_elsewhere(path):
    shutil.copy(path.with_name("00003.npz"), path)


@pytest.mark.parametrize("damage", [cut, flip, from_elsewhere, lambda path: path.write_bytes(b"")])
def test_a_part_that_is_damaged_or_of_elsewhere_is_made_again(path, damage):
    expected = bytes_of(run(path)[0])
    damage(files(path)[1])
    damage(files(path)[4])
    found, seen = run(path)
    assert seen == PART + 1
    assert bytes_of(found) == expected
    assert run(path)[1] == 0


def test_other_images_of_the_same_name_are_not_mixed_up(path):
    first = run(path)[0]
    write(path, seed=1)
    run(path, limit=2 * PART)
    found, seen = run(path)
    assert seen == COUNT - 2 * PART
    whole = extract(Extractor(), tensors(open_images(path), BATCH, CPU), lambda n: None)
    assert torch.equal(found.pool, whole.pool)
    assert not torch.equal(found.pool, first.pool)


@pytest.mark.parametrize(
    "change", [{"weights": "other"}, {"batch": 4}, {"device": torch.device("meta")}]
)
def test_what_is_seen_otherwise_has_parts_of_its_own(path, monkeypatch, change):
    monkeypatch.setattr(parts, "send", lambda tensor, device: tensor)
    run(path)
    assert run(path, **change)[1] == COUNT


def test_other_versions_have_parts_of_their_own(path, monkeypatch):
    run(path)
    versions = {"torch": "other", "torch-fidelity": "0"}
    for found in (versions, versions | {"torch-fidelity": "1"}):
        monkeypatch.setattr(parts, "package_versions", found.copy)
        assert run(path)[1] == COUNT
    monkeypatch.setattr(parts, "package_versions", lambda: found | {"numpy": "other"})
    assert run(path)[1] == 0


def test_forgetting_deletes_the_parts_of_these_images_alone(folder):
    one, other = (write(folder / f"{name}.npz", seed) for seed, name in enumerate(("one", "other")))
    run(one)
    run(other)
    extraction = Extraction(
        extractor=Extractor(), weights="abc", batch=BATCH, device=CPU, folder=folder / "kept"
    )
    extraction.forget(open_images(one))
    extraction.forget(open_images(one))
    assert len(files(one)) == 5
    assert (run(other)[1], run(one)[1]) == (0, COUNT)


def test_mending_one_image_loses_the_features_of_its_part_alone(folder):
    path = write(folder / "images")
    before = run(path)[0]
    Image.fromarray(random_images(1, seed=9)[0]).save(path / "005.png")
    found, seen = run(path)
    assert seen == PART
    whole = extract(Extractor(), tensors(open_images(path), BATCH, CPU), lambda n: None)
    assert torch.equal(found.pool, whole.pool)
    assert not torch.equal(found.pool, before.pool)
    # What is no longer anybody's is gone.
    assert len(files(path)) == 5
    assert run(path)[1] == 0


def test_an_image_that_goes_moves_those_behind_it(folder):
    path = write(folder / "images")
    run(path)
    (path / "009.png").unlink()
    found, seen = run(path)
    assert seen == COUNT - 1 - 2 * PART
    whole = extract(Extractor(), tensors(open_images(path), BATCH, CPU), lambda n: None)
    assert torch.equal(found.pool, whole.pool)
