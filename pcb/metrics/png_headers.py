"""PNG files of a folder, listed and checked by their headers before any is decoded."""

import os
import struct
import zlib
from pathlib import Path

from pcb.errors import UserError
from pcb.runtime.file_kind import standin

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">12s4sIIBB3xI")
"""Signature and length, `IHDR`, width, height, bits, color type, CRC-32."""
_PNG_END = b"IEND\xaeB`\x82"
_TAIL = 4096
"""Bytes at the end among which that stands, whatever some program has put behind it."""
_RGB = 2
_MODES = {
    (1, 0): "1",
    (8, 0): "L",
    (16, 0): "I;16",
    (8, 3): "P",
    (8, 4): "LA",
    (8, 6): "RGBA",
    (16, _RGB): "RGB of 16 bits per channel",
}
"""What Pillow calls a PNG of these bits and color type."""


def png_files(folder: Path) -> tuple[list[Path], int]:
    """Return the sorted PNG files in a folder and those inside it, and how many others there are.

    Links are followed, but not back into a folder above; hidden files and folders are none.
    """
    found: list[Path] = []
    others = 0
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(folder, ())]
    while waiting:
        place, above = waiting.pop()
        real = place.resolve()
        if real in above:
            continue
        try:
            inside = [path for path in place.iterdir() if not path.name.startswith(".")]
        except OSError as error:
            raise UserError(f"{place}: cannot be read ({error.strerror})") from None
        for path in inside:
            if path.is_dir():
                waiting.append((path, (*above, real)))
            elif path.suffix.lower() == ".png":
                found.append(path)
            else:
                others += 1
    return sorted(found), others


def png_size(path: Path) -> tuple[int, int]:
    """Return H, W that a PNG's header says. Raises UserError unless it is one of 8-bit RGB."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: not a readable image (no file, or a link to none)")
        with path.open("rb") as file:
            head = file.read(_PNG_HEADER.size)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
    except OSError as error:
        raise UserError(f"{path}: not a readable image ({error})") from None
    if len(head) < _PNG_HEADER.size or not head.startswith(_PNG):
        what = standin(path) or (
            "a JPEG" if head.startswith(b"\xff\xd8") else "no PNG, or cut short"
        )
        raise UserError(f"{path}: not a readable image ({what})")
    _, kind, width, height, bits, color, checksum = _PNG_HEADER.unpack(head)
    if kind != b"IHDR" or zlib.crc32(head[12:-4]) != checksum or not width or not height:
        raise UserError(f"{path}: not a readable image (its header is damaged)")
    if _PNG_END not in tail:
        raise UserError(f"{path}: not a readable image (cut short: its end is not there)")
    if (bits, color) != (8, _RGB):
        mode = _MODES.get((bits, color), f"of color type {color} with {bits} bits")
        raise UserError(f"{path}: mode {mode} where 8-bit RGB is expected")
    return height, width
