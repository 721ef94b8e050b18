"""Resumable download of one file by HTTP. No torch.

A download grows under ``NAME.part``; ``NAME.part.json`` says what the server said of the file, so
that a later run resumes only if the server still has the very same one.
"""

import http.client
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

import pcb
from pcb.errors import UserError
from pcb.runtime.atomic import disk_errors_explained, write_atomic
from pcb.runtime.progress import Progress

CHUNK = 1 << 20
TRIES = 6
"""Attempts in a row that bring nothing, before a server that had answered is given up."""
FIRST_WAIT = 1.0
"""Seconds before the second attempt; they double from one to the next."""
TIMEOUT = 60.0
"""Seconds of silence after which a connection counts as broken."""
_BUSY = {408, 429, 500, 502, 503, 504}
_RANGE_NOT_SATISFIABLE = 416


class Refused(Exception):
    """An answer that will be the same if one asks again."""


class Broken(Exception):
    """A download that may resume if one asks again."""


class Unreachable(Broken):
    """A server that did not answer at all."""


class _Offer(msgspec.Struct, frozen=True):
    """What a server said of the file of which a part is here."""

    bytes: int
    tag: str | None
    """Strong ETag or time of change: names this very version of the file."""


def download(url: str, path: Path, name: str, expected: int | None) -> Path:
    """Download a file to ``PATH.part`` and return that path when all its bytes are there.

    Raises UserError for a full disk, Refused for a wrong answer (or another size than `expected`),
    Unreachable if the server never answered, Broken if it did and then no more.
    """
    part = path.with_name(f"{path.name}.part")
    failures, most, reached = 0, size_of(part), False
    with disk_errors_explained(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        while not _is_whole(part):
            try:
                _append(url, part, name, expected)
            except Broken as error:
                if isinstance(error, Unreachable) and not reached:
                    raise
                reached = True
                # Against the most so far: a server that always begins anew may never end.
                failures = 0 if size_of(part) > most else failures + 1
                most = max(most, size_of(part))
                if failures == TRIES:
                    raise Broken(str(error)) from None
                time.sleep(FIRST_WAIT * 2 ** (failures - 1) if failures else 0)
    return part


def discard(part: Path) -> None:
    """Delete a part, and what is known of it."""
    part.unlink(missing_ok=True)
    _offer_file(part).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Return a file's bytes; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _is_whole(part: Path) -> bool:
    """Say whether all bytes of the file that was offered are here."""
    offer = _read_offer(part)
    if offer is None or not part.exists():
        return False
    if size_of(part) > offer.bytes:
        discard(part)
        return False
    return size_of(part) == offer.bytes


def _append(url: str, part: Path, name: str, expected: int | None) -> None:
    """Ask for what is missing, and write what comes."""
    offer = _read_offer(part)
    tag = None if offer is None else offer.tag
    start = 0 if tag is None else size_of(part)
    headers = {"User-Agent": f"pcb/{pcb.__version__}"}
    if start and tag is not None:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag}
    with _open(urllib.request.Request(url, headers=headers), part) as response:
        start = _start(response, start, part)
        total = start + _length(response)
        if expected is not None and total != expected:
            raise Refused(f"the server has {total} bytes where {expected} are expected")
        if shutil.disk_usage(part.parent).free < total - start:
            raise UserError(
                f"{part}: {total - start} more bytes do not fit on this disk; free some, then give "
                f"the same command again"
            )
        with part.open("ab" if start else "wb") as file:
            _write_offer(part, _Offer(total, _tag(response.headers)))
            with Progress(f"fetch {name}", "MiB", _mebibytes(total)) as progress:
                progress.skip(_mebibytes(start))
                while chunk := _read(response):
                    file.write(chunk)
                    progress.advance(_mebibytes(file.tell()) - progress.done)
                if file.tell() < total:
                    raise Broken("it ended early")


def _open(request: urllib.request.Request, part: Path) -> Any:
    """Send a request and return the response, of status 200 or 206."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE:
            discard(part)
        if error.code in {*_BUSY, _RANGE_NOT_SATISFIABLE}:
            raise Broken(f"the server says {error.code} {error.reason}") from None
        raise Refused(f"the server says {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise Unreachable(str(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_reason(error)) from None


def _start(response: Any, asked: int, part: Path) -> int:
    """Return where the body begins: where it was asked to, or at 0 if it is the whole file."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {asked}-"):
        discard(part)
        raise Broken("the server sent another part than it was asked for")
    return asked


def _length(response: Any) -> int:
    """Return the bytes of the body. Raises Refused for a body that cannot be the file."""
    if response.headers.get_content_type() == "text/html":
        raise Refused("the server answers with a web page")
    length = response.headers["Content-Length"]
    if length is None or not length.strip().isascii() or not length.strip().isdecimal():
        raise Refused("the server does not say how long the file is")
    return int(length)


def _read(response: Any) -> bytes:
    """Return the next bytes of a body, none at its end."""
    try:
        chunk: bytes = response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_reason(error)) from None
    return chunk


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _tag(headers: http.client.HTTPMessage) -> str | None:
    """Return what names this version of the file in If-Range: a weak ETag may not."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _mebibytes(size: int) -> int:
    """Return MiB, the last one begun."""
    return -(-size // (1 << 20))


def _offer_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_offer(part: Path) -> _Offer | None:
    """Return what a server said of a part, None if that is not known."""
    try:
        return msgspec.json.decode(_offer_file(part).read_bytes(), type=_Offer)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write_offer(part: Path, offer: _Offer) -> None:
    write_atomic(_offer_file(part), msgspec.json.encode(offer))
