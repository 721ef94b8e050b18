"""ImageNet's images as stages read them: the right crops, in order, of the files entered."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcb.config.images import TEN_CROPS
from pcb.data.crops import center_square, crop
from pcb.data.images import first_images, open_images
from pcb.errors import UserError
from pcb.runtime.pool import in_order
from pcb.stages.data import run as prepare
from tests.imagenet import (
    Tree,
    imagenet_preset,
    jpeg,
    natural_image,
    odd_file,
    write_tree,
    write_validation,
)
from tests.tasks import job_of


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("imagenet")


@pytest.fixture(scope="module")
def tree(root) -> Tree:
    """Write the trees and enter them."""
    tree = write_tree(root / "train")
    write_tree(root / "tars", layout="tars")
    write_validation(root / "val")
    for name in ("train", "tars"):
        prepare(job_of(imagenet_preset(root / name, root / "val"), "data", root / "data" / name))
    return tree


def images_of(root, layout="train", split="train", size=256):
    preset = imagenet_preset(root / layout, root / "val", image_size=size)
    return open_images(root / "data" / layout, preset, split)


@pytest.mark.parametrize("layout", ["train", "tars"])
def test_every_crop_is_that_of_its_file(root, tree, layout):
    images = images_of(root, layout)
    assert (len(images), images.crops) == (len(tree.images), TEN_CROPS)
    np.testing.assert_array_equal(images.labels, tree.labels)
    found = list(images.all_crops(range(3, len(images))))
    assert found[0].shape == (TEN_CROPS, 3, 256, 256)
    for crops, name in zip(found, tree.images[3:], strict=True):
        square = center_square(Image.open(root / "train" / name).convert("RGB"), 281)
        expected = [crop(square, 256, number) for number in range(TEN_CROPS)]
        np.testing.assert_array_equal(crops, expected)


def test_crops_that_are_asked_for_are_those_of_all(root, tree):
    images = images_of(root, size=64)
    every = np.stack(list(images.all_crops(range(len(images)))))
    chosen, crops = np.array([16, 0, 5, 5, 9]), np.array([9, 0, 4, 5, 2])
    np.testing.assert_array_equal(images.read(chosen, crops), every[chosen, crops])


def test_held_out_images_are_the_center_of_validation_images(root, tree):
    images = images_of(root, split="held_out")
    assert (len(images), images.crops) == (6, 1)
    name = images.index.paths[1]
    expected = center_square(Image.open(root / "val" / name).convert("RGB"), 256)
    np.testing.assert_array_equal(first_images(images, 2)[1], expected)


def test_there_may_be_no_validation_images(root, tree, tmp_path):
    preset = imagenet_preset(root / "train")
    prepare(job_of(preset, "data", tmp_path))
    assert len(open_images(tmp_path, preset, "held_out")) == 0


def test_a_file_that_changed_or_went_is_named(root, tree, tmp_path):
    shutil.copytree(root / "train", tmp_path / "train")
    preset = imagenet_preset(tmp_path / "train", image_size=64)
    images = open_images(root / "data" / "train", preset, "train")
    place = tmp_path / "train" / tree.images[4]
    data = bytearray(place.read_bytes())
    data[300] ^= 1
    place.write_bytes(data)
    with pytest.raises(UserError, match=rf"{tree.images[4]}: not the file that .* has entered"):
        list(images.all_crops(range(6)))
    place.write_bytes(data[:-1])
    with pytest.raises(UserError, match="not the file that the stage `data` has entered"):
        images.read(np.array([4]), np.array([0]))
    place.unlink()
    with pytest.raises(UserError, match=rf"{tree.images[4]}: cannot be read .No such file"):
        images.read(np.array([4]), np.array([0]))


def test_a_file_that_only_looks_sound_is_named(tmp_path):
    write_tree(tmp_path / "train", per_class=1, oddities=False)
    place = next((tmp_path / "train").rglob("*.JPEG"))
    data = bytearray(odd_file("exif"))
    # A table of codes that cannot be: neither the header nor the end marker shows it.
    table = data.index(b"\xff\xc4") + 5
    data[table : table + 16] = b"\xff" * 16
    place.write_bytes(data)
    preset = imagenet_preset(tmp_path / "train", image_size=64)
    assert prepare(job_of(preset, "data", tmp_path / "data"))["refused"] == 0
    images = open_images(tmp_path / "data", preset, "train")
    with pytest.raises(UserError, match=rf"{place.name}: cannot be decoded .*; replace it"):
        list(images.all_crops(range(3)))


def test_an_index_without_its_tree_says_what_to_set(root, tree):
    preset = imagenet_preset(root / "nowhere")
    with pytest.raises(UserError, match="nowhere: no such folder; files.imagenet names it"):
        open_images(root / "data" / "train", preset, "train")


def test_a_lost_and_a_damaged_index_are_named(root, tree, tmp_path):
    preset = imagenet_preset(root / "train")
    with pytest.raises(UserError, match=r"train.csv: no such file; make the stage `data`"):
        open_images(tmp_path, preset, "train")
    (tmp_path / "train.csv").write_text("path,label\nx,one\n")
    with pytest.raises(UserError, match=r"train.csv: not an index"):
        open_images(tmp_path, preset, "train")


def test_results_keep_their_order_and_few_wait():
    begun, lock = [], threading.Lock()

    def work(item: int) -> int:
        with lock:
            begun.append(item)
        time.sleep(0.001 * (item % 3))
        return item * item

    with ThreadPoolExecutor(4) as pool:
        results = in_order(pool, work, range(40), ahead=5)
        for item in range(40):
            assert next(results) == item * item
            assert len(begun) <= item + 6
        assert next(results, None) is None


def test_what_an_item_raises_comes_at_its_turn_and_ends_the_rest():
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise UserError("item 2")
        return item

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, work, range(1000), ahead=3)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(UserError, match="item 2"):
            next(results)
    assert max(begun) <= 5


def test_names_may_hold_anything_that_files_may_be_called(tmp_path):
    names = ("NA/nan.JPEG", 'a, "b"/1;2,3.jpg', "ü #x/line\nbreak.JPEG", "z/.hidden.JPEG")
    for k, name in enumerate(names):
        place = tmp_path / "train" / name
        place.parent.mkdir(parents=True)
        place.write_bytes(jpeg(natural_image(k, (64, 64))))
    (tmp_path / "train" / "z" / "seen.PNG").write_bytes(odd_file("png"))
    preset = imagenet_preset(tmp_path / "train", num_classes=4, image_size=64)
    prepare(job_of(preset, "data", tmp_path / "data"))
    images = open_images(tmp_path / "data", preset, "train")
    assert list(images.index.paths) == [*names[:2], "z/seen.PNG", names[2]]
    assert len(list(images.all_crops(range(4)))) == 4
