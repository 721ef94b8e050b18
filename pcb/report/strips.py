"""Rows of small images as PNG files."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GAP = 2
_LARGEST = 96
"""Pixels a side above which an image is made smaller, so that a page stays a page."""


def strip(images: NDArray[np.uint8]) -> bytes:
    """Return a PNG of uint8 (n, 3, H, W) images side by side, with transparent gaps."""
    return _png(_row([_shrink(image) for image in images]))


def sheet(rows: list[NDArray[np.uint8]]) -> bytes:
    """Return a PNG of rows of images of one size, below each other, with transparent gaps."""
    drawn = [_row([_shrink(image) for image in images]) for images in rows]
    gap = np.zeros((_GAP, drawn[0].shape[1], 4), np.uint8)
    parts = [part for row in drawn for part in (row, gap)][:-1]
    return _png(np.concatenate(parts))


def data_uri(png: bytes) -> str:
    """Return a PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _row(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join uint8 (H, W, 4) images with gaps between them."""
    gap = np.zeros((images[0].shape[0], _GAP, 4), np.uint8)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1)


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a (3, H, W) image as (h, w, 4), opaque and at most `_LARGEST` pixels a side."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGBA"))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
