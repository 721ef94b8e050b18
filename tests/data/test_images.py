"""Images as stages read them: one crop of some, or all crops of a range, in order."""

import numpy as np
import pytest

from pcb.data.arrays import save_array
from pcb.data.images import (
    REFERENCE_IMAGES,
    REFERENCE_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    ArrayImages,
    first_images,
    open_images,
)
from pcb.errors import UserError
from pcb.tokenizer.encode import batches
from tests.tasks import pipeline_of

PIXELS = np.arange(4 * 2 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 2, 3, 2, 2)
LABELS = np.array([0, 0, 1, 2])


def test_crops_are_read_one_by_one_or_all_in_turn():
    images = ArrayImages(PIXELS, LABELS)
    assert (len(images), images.crops) == (4, 2)
    chosen, crops = np.array([3, 0, 3]), np.array([1, 0, 0])
    np.testing.assert_array_equal(images.read(chosen, crops), PIXELS[chosen, crops])
    np.testing.assert_array_equal(list(images.all_crops(range(1, 3))), PIXELS[1:3])
    np.testing.assert_array_equal(first_images(images, 2), PIXELS[:2, 0])
    np.testing.assert_array_equal(first_images(images, 9), PIXELS[:, 0])


def test_batches_cut_crops_of_several_images_at_a_fixed_size():
    found = list(batches(PIXELS, 3))
    assert [len(batch) for batch in found] == [3, 3, 2]
    np.testing.assert_array_equal(np.concatenate(found), PIXELS.reshape(8, 3, 2, 2))


def test_digits_are_opened_by_split(tmp_path):
    preset = pipeline_of().preset
    save_array(tmp_path / TRAIN_IMAGES, PIXELS)
    save_array(tmp_path / TRAIN_LABELS, LABELS)
    save_array(tmp_path / REFERENCE_IMAGES, PIXELS[:3, 0])
    save_array(tmp_path / REFERENCE_LABELS, LABELS[:3])
    train, held_out = (open_images(tmp_path, preset, split) for split in ("train", "held_out"))
    np.testing.assert_array_equal(list(train.all_crops(range(4))), PIXELS)
    np.testing.assert_array_equal(train.labels, LABELS)
    assert (len(held_out), held_out.crops) == (3, 1)
    np.testing.assert_array_equal(first_images(held_out, 3), PIXELS[:3, 0])
    (tmp_path / TRAIN_IMAGES).unlink()
    with pytest.raises(UserError, match=r"train_images.npy: no such file; make the stage `data`"):
        open_images(tmp_path, preset, "train")
