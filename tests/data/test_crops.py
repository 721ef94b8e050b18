"""The crops of an image: the pixels that ADM's preprocessing and ten-cropping give."""

import numpy as np
import pytest
from PIL import Image

from pcb.config.images import TEN_CROPS
from pcb.data.crops import UnreadableImageError, center_square, crop, decode_rgb
from tests.imagenet import BROKEN, READABLE, SIZES, jpeg, natural_image, odd_file

SIDE = 281


def cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resize_axis(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize rows bicubically: a kernel as wide as the shrinking asks for, rounded to bytes."""
    scale = len(pixels) / size
    wide = max(scale, 1)
    rows = []
    for k in range(size):
        middle = (k + 0.5) * scale
        first = max(int(middle - 2 * wide + 0.5), 0)
        last = min(int(middle + 2 * wide + 0.5), len(pixels))
        weights = cubic((np.arange(first, last) + 0.5 - middle) / wide)
        rows.append(np.tensordot(weights / weights.sum(), pixels[first:last], 1))
    return np.floor(np.array(rows) + 0.5).clip(0, 255)


def pixels_of(image: Image.Image, side: int) -> np.ndarray:
    """Return the square as PIL orders pixels: (side, side, 3)."""
    return center_square(image, side).transpose(1, 2, 0)


def slow_square(image: Image.Image, side: int) -> np.ndarray:
    """Compute the square pixel by pixel, in floating point."""
    pixels = np.asarray(image).astype(float)
    while min(pixels.shape[:2]) >= 2 * side:
        height, width = (n // 2 for n in pixels.shape[:2])
        assert pixels.shape[:2] == (2 * height, 2 * width), "boxes of two by two alone"
        boxes = pixels.reshape(height, 2, width, 2, 3).mean(3)
        pixels = np.floor(np.floor(boxes + 0.5).mean(1) + 0.5)
    shorter = min(pixels.shape[:2])
    height, width = (round(n * (side / shorter)) for n in pixels.shape[:2])
    pixels = resize_axis(pixels.transpose(1, 0, 2), width).transpose(1, 0, 2)
    pixels = resize_axis(pixels, height)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize("size", SIZES)
def test_the_square_is_that_of_a_slow_computation(size):
    image = natural_image(1, size)
    found = pixels_of(image, SIDE)
    assert (found.shape, found.dtype) == ((SIDE, SIDE, 3), np.uint8)
    # PIL's weights have 22 bits: a value in the middle between two bytes may fall either way.
    difference = np.abs(found.astype(int) - slow_square(image, SIDE))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_sizes_and_offsets_are_rounded_down():
    # Halved once, 5 x 7 becomes 2 x 3, of which the upper two rows are the middle.
    image = natural_image(2, (5, 7))
    halved = np.asarray(image.resize((2, 3), Image.Resampling.BOX))
    np.testing.assert_array_equal(pixels_of(image, 2), halved[:2])
    # As large as needed already: three rows too many are one above and two below.
    tall = natural_image(3, (4, 7))
    np.testing.assert_array_equal(pixels_of(tall, 4), np.asarray(tall)[1:5])
    wide = natural_image(4, (8, 5))
    np.testing.assert_array_equal(pixels_of(wide, 5), np.asarray(wide)[:, 1:6])


def test_an_image_is_halved_only_while_it_is_twice_as_large():
    gray = np.tile(np.array([0, 255], np.uint8), (12, 6))
    stripes = Image.fromarray(np.stack([gray] * 3, axis=2))
    # Boxes of two pixels make stripes flat, to the level that a half is rounded up to.
    assert set(center_square(stripes, 6).flat) == {128}
    assert len(set(center_square(stripes, 7).flat)) > 2


def test_crops_are_corners_and_center_then_those_of_the_mirrored_square():
    square = np.arange(25).reshape(1, 5, 5).repeat(3, 0).astype(np.uint8)
    square[1] += 100
    crops = np.stack([crop(square, 2, number) for number in range(TEN_CROPS)])
    assert crops.shape == (10, 3, 2, 2)
    upper_left = [[0, 1], [5, 6]]
    assert crops[:5, 0].tolist() == [
        upper_left,
        [[3, 4], [8, 9]],
        [[15, 16], [20, 21]],
        [[18, 19], [23, 24]],
        # Three pixels too many: 1.5 is rounded to even, two before and one behind.
        [[12, 13], [17, 18]],
    ]
    assert crops[5, 0].tolist() == [[4, 3], [9, 8]]
    assert crops[9, 0].tolist() == [[12, 11], [17, 16]]
    mirrored = [crop(square[:, :, ::-1], 2, number) for number in range(5)]
    np.testing.assert_array_equal(crops[5:], mirrored)
    np.testing.assert_array_equal(crops[:, 1], crops[:, 0] + 100)


@pytest.mark.parametrize("kind", READABLE)
def test_odd_files_are_read_as_pil_reads_them(kind):
    data = odd_file(kind)
    image = decode_rgb(data)
    plain = np.asarray(natural_image(0, SIZES[0]).convert("L" if kind == "gray" else "RGB"))
    # Not turned, whatever EXIF says of the camera.
    assert image.size == SIZES[0]
    assert image.mode == "RGB"
    found = np.asarray(image).astype(float)
    assert np.abs(found - (plain[..., None] if plain.ndim == 2 else plain)).mean() < 3


@pytest.mark.parametrize(
    ("kind", "why"),
    list(zip(BROKEN, ("empty", "none of JPEG, PNG", "truncated"), strict=True)),
)
def test_broken_files_are_refused_with_a_reason(kind, why):
    with pytest.raises(UnreadableImageError, match=why):
        decode_rgb(odd_file(kind))


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        decode_rgb(jpeg(natural_image(0, (64, 48))))
