"""`pcb fetch`: published files are downloaded, or taken from a folder, and checked. No torch.

A file gets its name when its size and SHA-256 are right, so that what stands there can be used.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

from pcb.config import Files
from pcb.config.paths import LOCKS
from pcb.errors import UserError
from pcb.external.catalog import CATALOG, UNRELEASED, Source
from pcb.external.download import Broken, Refused, Unreachable, discard, download
from pcb.external.files import (
    damage_of,
    expected_size,
    own_file,
    pin,
    published_path,
    size_text,
    source_of,
    state_of,
    way_out,
)
from pcb.runtime.atomic import atomic, disk_errors_explained
from pcb.runtime.lock import hold


def fetch(files: Files, names: Sequence[str], folder: Path | None = None) -> int:
    """Fetch files, or take them from a folder; return 1 if one could not be had, else 0.

    What cannot be had is one line each on stderr, and the others are fetched all the same.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    fetcher, failed = _Fetcher(files=files, folder=folder), 0
    for source in [source_of(name) for name in names]:
        try:
            fetcher.fetch(source)
        except UserError as error:
            failed += 1
            print(f"pcb: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def list_lines(files: Files) -> Iterator[str]:
    """Yield the catalog as a table: name, state, size, place, address."""
    for source in CATALOG.values():
        state = state_of(files, source.name)
        size = size_text(state.bytes)
        yield f"{source.name:<26}{state.word:<9}{size:<20}{state.path}  {source.url}"
    for name, said in UNRELEASED.items():
        yield f"unreleased: Table 1's weights of {name}: {said}"


@dataclass(kw_only=True)
class _Fetcher:
    """Fetches files one after the other; a host that cannot be reached is asked once."""

    files: Files
    folder: Path | None
    """Where to take files from, instead of their addresses."""
    unreachable: dict[str, str] = field(default_factory=dict)

    def fetch(self, source: Source) -> None:
        """Put a file in its place unless it is there. Raises UserError if that cannot be done."""
        path = own_file(self.files, source.name)
        if path is None:
            path = published_path(self.files, source)
            lock = LOCKS / "fetch" / f"{source.name}.lock"
            with hold(lock, f"{source.name}: another process is fetching it; waiting for that"):
                self._ensure(source, path)
        print(f"{source.name}: {path}, {size_text(path.stat().st_size)}", flush=True)

    def _ensure(self, source: Source, path: Path) -> None:
        """See to it that what stands in a file's place is that file."""
        damage = damage_of(source, path)
        if damage is not None:
            if path.exists():
                print(f"{path}: {damage}; fetching it again", flush=True)
            if self.folder is not None:
                _take(source, self.folder, path)
            elif not source.direct:
                raise UserError(f"{path}: {damage}; {way_out(source)}")
            else:
                self._download(source, path)
        pin(source, path)

    def _download(self, source: Source, path: Path) -> None:
        """Download a file, check it and give it its name."""
        host = urlsplit(source.url).netloc
        try:
            if host in self.unreachable:
                raise Unreachable(self.unreachable[host])
            part = download(source.url, path, source.name, expected_size(source))
        except Unreachable as error:
            self.unreachable[host] = str(error)
            reason = f"{host} cannot be reached ({error})"
            raise UserError(f"{path}: {reason}; {_by_hand(source)}") from None
        except Refused as error:
            raise UserError(f"{path}: {error}; {_by_hand(source)}") from None
        except Broken as error:
            raise UserError(
                f"{path}: the download broke off ({error}); the same command resumes from there"
            ) from None
        wrong = damage_of(source, part)
        if wrong is not None:
            discard(part)
            raise UserError(f"{path}: {source.url} gave another file: {wrong}")
        with disk_errors_explained(path):
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
            discard(part)


def _by_hand(source: Source) -> str:
    """Say how a file that cannot be downloaded here may come here."""
    return (
        f"put there what {source.url} holds ({size_text(expected_size(source))}), or give "
        f"`pcb fetch {source.name} --from DIR` for a folder that has it"
    )


def _take(source: Source, folder: Path, path: Path) -> None:
    """Link or copy a file from a folder that holds it, anywhere below, under its own name.

    Where several bear the name, as `config.yaml` does, those in the released layout go first.
    """
    found = [file for file in folder.rglob(source.path.name) if file.is_file()]
    found.sort(key=lambda file: (-_shared_tail(file, source.path), str(file)))
    faults = {}
    for candidate in found:
        fault = damage_of(source, candidate)
        if fault is None:
            with atomic(path) as hidden:
                _link_or_copy(candidate.resolve(), hidden)
            return
        faults[candidate] = fault
    if not faults:
        raise UserError(f"{path}: {folder} holds no {source.path.name}; {_by_hand(source)}")
    first, fault = next(iter(faults.items()))
    raise UserError(f"{path}: {first} is another file: {fault}; {_by_hand(source)}")


def _shared_tail(file: Path, wanted: Path) -> int:
    """Return how many names two paths share, counted from the end."""
    pairs = zip(reversed(file.parts), reversed(wanted.parts), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _link_or_copy(file: Path, to: Path) -> None:
    """Make another name of a file, or a copy where that cannot be, as on another disk."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)
