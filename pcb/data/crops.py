"""ADM's center crop of an image file, and the ten crops of it (method section 3).

The square is ADM's: the bytes of its pixels decide codes, so sizes and offsets are rounded as
there. Camera orientation (EXIF) is left alone, as there.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

# What PIL knows without loading more, which it cannot do in several threads at once.
FORMATS = ("JPEG", "PNG", "GIF", "BMP")


def ignore_metadata_warnings() -> None:
    """Let Pillow say nothing of EXIF data and sizes: it names no file, and neither is read here."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(Exception):
    """An image's bytes cannot be decoded; the message says why."""


def open_image(data: bytes) -> Image.Image:
    """Read an image's header, not its pixels. Raises UnreadableImageError if it is no image."""
    if not data:
        raise UnreadableImageError("empty")
    with _refusing():
        return Image.open(io.BytesIO(data), formats=FORMATS)


def decode_rgb(data: bytes) -> Image.Image:
    """Decode an image file. Raises UnreadableImageError if any of it cannot be decoded."""
    with _refusing():
        return open_image(data).convert("RGB")


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what PIL raises for a broken file, which may be nearly anything, into one exception."""
    try:
        yield
    except (MemoryError, UnreadableImageError):
        raise
    except UnidentifiedImageError:
        # PIL's own words name an object in memory.
        raise UnreadableImageError(f"none of {', '.join(FORMATS)}") from None
    except Exception as error:
        raise UnreadableImageError(" ".join(str(error).split()) or type(error).__name__) from error


def center_square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """Bring an RGB image's shorter side to `side` pixels and crop the middle: (3, side, side).

    Halved by box filter while twice as large as needed, then resized bicubically.
    """
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side]
    return np.ascontiguousarray(square.transpose(2, 0, 1))


def crop(square: NDArray[np.uint8], size: int, number: int) -> NDArray[np.uint8]:
    """Return one of the ten crops of a (3, side, side) square, a view: (3, size, size).

    0 to 3 are the corners top left, top right, bottom left, bottom right, 4 is the center; 5 to 9
    are these five of the mirrored square. Order and offsets are those of torchvision's `TenCrop`.
    """
    last = square.shape[1] - size
    # As there, half to even: 281 - 256 is odd, so both centers leave 12 columns on their left.
    middle = round(last / 2)
    top, left = ((0, 0), (0, last), (last, 0), (last, last), (middle, middle))[number % 5]
    seen = square[:, :, ::-1] if number >= 5 else square
    return seen[:, top : top + size, left : left + size]
