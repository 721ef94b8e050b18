"""Images side by side under legible labels, as a PNG, and frame by frame as a GIF. No torch."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Images = NDArray[np.uint8]
"""uint8 (n, H, W, 3)."""

_FONT_SIZE = 15
_LEAST_SIDE = 96
"""Pixels per side up to which images are enlarged: as many as a short name is wide."""
_GAP, _MARGIN = 4, 10
_LINE = _FONT_SIZE + 6
_PER_BAND = 10
"""Images side by side before a row continues below."""
_FRAME_MS, _LAST_FRAME_MS = 350, 2500
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Images side by side, and what stands to the left of them."""

    label: str
    images: Images


def grid(rows: Sequence[Row], columns: Sequence[str] = (), title: str = "") -> Image.Image:
    """Lay out rows of equally many images of one size below each other.

    columns: what stands above each image, if anything does. Rows of more than ten images continue
    in bands of all rows.
    """
    font = ImageFont.load_default(size=_FONT_SIZE)
    count, height, width = rows[0].images.shape[:3]
    scale = max(1, -(-_LEAST_SIDE // width))
    cell_w, cell_h = scale * width + _GAP, scale * height + _GAP
    left = _MARGIN + max(int(font.getlength(row.label)) for row in rows) + 2 * _GAP
    heads = [_lines(name, font, cell_w - _GAP) for name in columns]
    head = _LINE * max((len(lines) for lines in heads), default=0)
    starts = range(0, count, _PER_BAND)
    band_h = head + len(rows) * cell_h + _MARGIN
    top = _MARGIN + (_LINE + _GAP if title else 0)
    total_w = left + min(count, _PER_BAND) * cell_w + _MARGIN
    if title:
        total_w = max(total_w, 2 * _MARGIN + int(font.getlength(title)))
    picture = Image.new("RGB", (total_w, top + len(starts) * band_h), _PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((_MARGIN, _MARGIN), title, fill=_INK, font=font)
    for band, start in enumerate(starts):
        y = top + band * band_h
        for k, lines in enumerate(heads[start : start + _PER_BAND]):
            # Names of fewer lines stand next to their image too.
            pen.multiline_text(
                (left + k * cell_w, y + head - _LINE * len(lines)),
                "\n".join(lines),
                fill=_INK,
                font=font,
            )
        for place, row in enumerate(rows):
            row_y = y + head + place * cell_h
            middle = row_y + (cell_h - _GAP) // 2
            pen.text((left - 2 * _GAP, middle), row.label, fill=_INK, font=font, anchor="rm")
            for k, image in enumerate(row.images[start : start + _PER_BAND]):
                shown = Image.fromarray(image)
                if scale > 1:
                    size = (scale * width, scale * height)
                    shown = shown.resize(size, Image.Resampling.NEAREST)
                picture.paste(shown, (left + k * cell_w, row_y))
    return picture


def png(picture: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def gif(frames: Sequence[Image.Image]) -> bytes:
    """Return pictures of one size as an animated GIF that stays at the last for a while."""
    buffer = io.BytesIO()
    times = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
    frames[0].save(
        buffer, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0
    )
    return buffer.getvalue()


def _lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break a text into at most two lines of a width; what is too long ends in dots."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > 2:
        lines = [lines[0], " ".join(lines[1:])]
    return [_shortened(line, font, width) for line in lines]


def _shortened(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "...") > width:
        line = line[:-1]
    return line + "..."
