"""Recognition of web pages, Git LFS pointers and broken zips in the place of a file. No torch.

A download that was refused leaves a web page or a server's message; a clone without its large
files leaves a pointer of three lines. All of them bear the name of the weights that are meant.
"""

import lzma
import re
import struct
import zipfile
import zlib
from pathlib import Path

_HEAD = 1024
"""Bytes that tell."""
_STANDINS = (
    (rb"version https://git-lfs\.github\.com", "a Git-LFS pointer, not the file it points to"),
    (rb"(?:\.\./)*\.?(?:git/annex/objects/|/annex/objects/)", "a git-annex pointer, not the file"),
    (rb"(?i)<!doctype html|<html|<head\b|<\?xml[^>]*>\s*<!doctype html", "a web page"),
    (rb"<\?xml|<Error>", "a server's message in XML"),
    (rb"\{\s*\"", "text in JSON"),
    (rb"\x1f\x8b", "compressed by gzip; unpack it"),
)

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OSError,
    RuntimeError,
    OverflowError,
)
"""What reading a damaged one raises."""


def standin(path: Path) -> str | None:
    """Say what a file is if it only stands in for another: `a web page`; None if it may be real.

    A file that is no file, or cannot be read, is none of these.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if not head:
        return "empty"
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((what for pattern, what in _STANDINS if re.match(pattern, begin)), None)


def zip_damage(path: Path) -> str | None:
    """Say what is wrong with a file that begins as a zip does; None for a whole one, or no zip.

    Reads the file to its end and compares every part with its CRC-32.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except zipfile.BadZipFile:
        return "cut short: its table of contents, which stands at the end, is not there or damaged"
    except (*ZIP_ERRORS, KeyError) as error:
        return f"damaged ({error})"
    return None if wrong is None else f"damaged: its part {wrong} does not have its CRC-32"
