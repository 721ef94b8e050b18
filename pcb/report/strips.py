"""Rows of small images as PNG files, and as animated GIFs."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GAP = 2
"""Transparent pixels between two images."""
_LARGEST = 96
"""Pixels per side above which an image is made smaller, so that a page stays a page."""

_ENLARGED = 2
_FRAME_MS, _LAST_FRAME_MS = 350, 2500


def strip(images: NDArray[np.uint8]) -> bytes:
    """Return a PNG of uint8 (n, 3, H, W) images side by side, with transparent gaps."""
    return _png(_row([_shrink(image) for image in images]))


def sheet(rows: list[NDArray[np.uint8]]) -> bytes:
    """Return a PNG of rows of images of one size, below each other, with transparent gaps."""
    strips = [_row([_shrink(image) for image in images]) for images in rows]
    gap = np.zeros((GAP, strips[0].shape[1], 4), np.uint8)
    parts = [part for row in strips for part in (row, gap)][:-1]
    return _png(np.concatenate(parts))


def animation(frames: NDArray[np.uint8]) -> bytes:
    """Return a GIF of frames (steps, n, 3, H, W): n images side by side; the last frame stays."""
    shown = []
    for images in frames:
        row = Image.fromarray(_row([_shrink(image) for image in images]))
        row = row.resize((_ENLARGED * row.width, _ENLARGED * row.height), Image.Resampling.NEAREST)
        paper = Image.new("RGB", row.size, "white")
        paper.paste(row, mask=row.getchannel("A"))
        shown.append(paper)
    buffer = io.BytesIO()
    times = [_FRAME_MS] * (len(shown) - 1) + [_LAST_FRAME_MS]
    shown[0].save(
        buffer, format="GIF", save_all=True, append_images=shown[1:], duration=times, loop=0
    )
    return buffer.getvalue()


def data_uri(picture: bytes, kind: str = "png") -> str:
    """Return a PNG or GIF as an address that holds it."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def _row(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join uint8 (H, W, 4) images with gaps between them."""
    gap = np.zeros((images[0].shape[0], GAP, 4), np.uint8)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1)


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a (3, H, W) image as (h, w, 4), opaque and at most `_LARGEST` pixels per side."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGBA"))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
