"""Crops of photographs: the splits share no pixel, every crop is a function of its numbers."""

from dataclasses import replace

import numpy as np
import pytest

from pcb.config import Photographs
from pcb.config.images import PICTURES
from pcb.data.arrays import map_array
from pcb.data.images import REFERENCE_IMAGES, REFERENCE_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from pcb.data.photographs import (
    FILES,
    SPLITS,
    crops_of,
    cut,
    held_out_tiles,
    load_picture,
    shrink,
    window,
)
from pcb.errors import UserError
from pcb.stages.data import crop_photographs

SETTINGS = Photographs()


@pytest.fixture(scope="module")
def pictures():
    return {name: load_picture(name) for name in PICTURES}


def test_every_class_has_a_picture_of_some_size(pictures):
    assert tuple(FILES) == PICTURES
    assert SETTINGS.num_classes == len(PICTURES) == 10
    for name, pixels in pictures.items():
        assert pixels.dtype == np.uint8 and pixels.shape[0] == 3
        assert min(pixels.shape[1:]) >= 300, name
        assert pixels.std() > 10, name


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, Photographs(tile=96, held_out_every=4), Photographs(tile=64, shrink=(2, 1))],
)
def test_no_pixel_is_in_both_splits(pictures, settings):
    """Where crops of either split lie in the picture, pixel by pixel, for many crops."""
    for label, (name, pixels) in enumerate(pictures.items()):
        seen = {}
        tiles = cut(pixels, settings, name)
        for split in SPLITS:
            covered = np.zeros(pixels.shape[1:], dtype=bool)
            corners = tiles[split].corners
            for crop in range(300):
                tile, by, top, left, _ = window(label, crop, len(corners), split, settings)
                down, right = corners[tile] + by * np.array([top, left])
                side = by * settings.image_size
                assert (np.array([down, right]) + side <= pixels.shape[1:]).all()
                covered[down : down + side, right : right + side] = True
            seen[split] = covered
        assert not (seen["train"] & seen["held_out"]).any(), name
        assert all(covered.any() for covered in seen.values())


def test_crops_are_the_pixels_that_their_windows_name(pictures):
    tiles = {k: cut(pixels, SETTINGS, name) for k, (name, pixels) in enumerate(pictures.items())}
    train = {label: own["train"] for label, own in tiles.items()}
    images, crops = np.arange(40), np.arange(40) % 7
    found = crops_of(train, images, crops, "train", SETTINGS)
    for image, crop, pixels in zip(images.tolist(), crops.tolist(), found, strict=True):
        own = train[image % 10]
        tile, by, top, left, mirrored = window(image, crop, len(own.corners), "train", SETTINGS)
        down, right = own.corners[tile] + by * np.array([top, left])
        whole = pictures[PICTURES[image % 10]][:, down : down + 32 * by, right : right + 32 * by]
        expected = np.empty((3, 32, 32))
        for row in range(32):
            for column in range(32):
                square = whole[:, row * by : (row + 1) * by, column * by : (column + 1) * by]
                expected[:, row, column] = np.rint(square.astype(float).mean((1, 2)))
        np.testing.assert_array_equal(pixels[:, :, ::-1] if mirrored else pixels, expected)


def test_windows_use_every_tile_every_size_and_the_mirror():
    found = {window(0, crop, 6, "train", SETTINGS) for crop in range(2000)}
    tiles, factors, *_, mirrored = (set(values) for values in zip(*found, strict=True))
    assert (tiles, factors, mirrored) == (set(range(6)), {1, 2, 3}, {False, True})
    for by in factors:
        most = 120 // by - 32
        corners = [top for _, factor, top, _, _ in found if factor == by]
        assert min(corners) <= 2 and most - 2 <= max(corners) <= most


def test_seed_split_image_and_crop_all_matter():
    windows = [
        window(*names, 6, split, Photographs(seed=seed))
        for seed in (0, 1)
        for split in SPLITS
        for names in ((0, 0), (10, 0), (0, 1))
    ]
    assert len(set(windows)) == len(windows)


def test_the_tile_of_a_held_out_image_is_the_one_it_is_cut_from(pictures):
    """Tiles painted with their numbers give crops of that number alone."""
    painted = {}
    for label, (name, pixels) in enumerate(pictures.items()):
        held_out = cut(pixels, SETTINGS, name)["held_out"]
        numbers = np.arange(len(held_out.pixels), dtype=np.uint8)[:, None, None, None]
        painted[label] = replace(held_out, pixels=np.broadcast_to(numbers, held_out.pixels.shape))
    images = np.array([0, 3, 8, 17, 200, 1999])
    crops = crops_of(painted, images, np.zeros_like(images), "held_out", SETTINGS)
    tiles = held_out_tiles(images, SETTINGS)
    assert (crops == tiles[:, None, None, None]).all()
    assert len(set(held_out_tiles(np.arange(0, 600, 10), SETTINGS).tolist())) == len(
        cut(pictures["brick"], SETTINGS, "brick")["held_out"].corners
    )


def test_shrinking_keeps_the_mean():
    pixels = np.random.default_rng(0).integers(256, size=(3, 12, 12), dtype=np.uint8)
    assert (shrink(pixels, 1) == pixels).all()
    np.testing.assert_allclose(shrink(pixels, 3).mean((1, 2)), pixels.mean((1, 2)), atol=0.5)


def test_the_stage_writes_both_splits_the_same_each_time(tmp_path):
    settings = Photographs(images=30, crops=2, reference_images=20)
    facts = crop_photographs(settings, tmp_path)
    assert facts["train_images"] == 60 and facts["reference_images"] == 20
    assert 0 < facts["held_out_tiles"] < facts["train_tiles"]
    train, reference = (map_array(tmp_path / n, "data") for n in (TRAIN_IMAGES, REFERENCE_IMAGES))
    assert (train.shape, reference.shape) == ((30, 2, 3, 32, 32), (20, 3, 32, 32))
    for name, count in ((TRAIN_LABELS, 3), (REFERENCE_LABELS, 2)):
        assert (np.bincount(map_array(tmp_path / name, "data")) == count).all()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    crop_photographs(settings, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_split_without_tiles_is_one_line(pictures):
    with pytest.raises(UserError, match=r"leave no held-out tile of the picture 'coins'; set data"):
        cut(pictures["coins"], Photographs(tile=300), "coins")
    with pytest.raises(UserError, match="leave no train tile of the picture 'cat'"):
        cut(pictures["cat"], Photographs(tile=600), "cat")
