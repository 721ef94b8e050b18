"""Squares and ten crops of recorded image files, by the hashes of torchvision's `TenCrop`."""

import hashlib

import numpy as np
import pytest

from pcb.data.crops import center_square, crop, decode_rgb
from tests.recorded import REFERENCE

RECORDED = REFERENCE / "training" / "crops.npz"
SIDE, SIZE = 281, 256


def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORDED, allow_pickle=False) as file:
        return dict(file)


IMAGES = [name.removesuffix("_file") for name in recorded() if name.endswith("_file")]


def sha256(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


@pytest.mark.parametrize("image", IMAGES)
def test_square_and_crops_are_the_recorded_ones(image):
    arrays = recorded()
    square = center_square(decode_rgb(arrays[f"{image}_file"].tobytes()), SIDE)
    assert sha256(square) == str(arrays[f"{image}_square_sha256"])
    for number, expected in enumerate(arrays[f"{image}_crops_sha256"].tolist()):
        found = crop(square, SIZE, number)
        np.testing.assert_array_equal(
            found[:, :4, :4], arrays[f"{image}_crops_corner"][number], f"crop {number}"
        )
        assert sha256(found) == expected, f"crop {number}"


def test_several_kinds_of_files_are_recorded():
    assert len(IMAGES) == 8
    assert {"cmyk", "grey"} <= set(IMAGES)
