"""External files, one's own or published, with the check of their content before use.

What is published with a SHA-256 is compared with it. Where nobody has published one, the first copy
that is seen is pinned in git (`PINS`), and every later one is compared with that. Hashes of large
files are remembered (`pcb.pipeline.integrity`), so that they are read once. No torch.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from pcb.config import Files
from pcb.config.paths import LOCKS, PINS
from pcb.errors import UserError
from pcb.external.catalog import CATALOG, UNRELEASED, Source
from pcb.runtime.atomic import write_atomic
from pcb.runtime.file_kind import standin
from pcb.runtime.hashing import FileRecord, file_record
from pcb.runtime.lock import hold

_WHOLE = 64
"""Hex digits of a SHA-256."""


def external_file(files: Files, name: str) -> Path:
    """Return the checked path of an external file: one's own as it is, else the published one.

    Raises UserError that says what is wrong with it, where it is published and how to get it.
    """
    own = own_file(files, name)
    source = source_of(name)
    if own is not None:
        what = standin(own)
        if what not in (None, "empty"):  # Whoever reads an empty file says so.
            raise UserError(f"files.own.{name} = {own}: {what}; {way_out(source)}")
        wrong = wrong_hash(source, file_record(own).sha256)
        if wrong is not None:
            _say_once(f"{own}: not the published {name}, but taken as it is: {wrong}")
        return own
    path = published_path(files, source)
    damage = damage_of(source, path)
    if damage is not None:
        raise UserError(f"{path}: {damage}; {way_out(source)}")
    pin(source, path)
    return path


@cache
def _say_once(text: str) -> None:
    print(text, flush=True)


def external_sha256(files: Files, name: str) -> str:
    """Return the SHA-256 of an external file, for the results of what is made from it.

    Raises UserError as `external_file` does.
    """
    return file_record(external_file(files, name)).sha256


def own_file(files: Files, name: str) -> Path | None:
    """Return the user's own file of this name, or None; UserError if it is named and not there."""
    if name not in files.own:
        return None
    own = Path(files.own[name]).expanduser()
    if not own.is_file():
        raise UserError(f"files.own.{name} = {own}: no such file; correct it, or delete the key")
    return own


def source_of(name: str) -> Source:
    """Return the catalog's entry, or raise UserError naming those that there are."""
    try:
        return CATALOG[name]
    except KeyError:
        if name in UNRELEASED:
            raise UserError(f"{name}: {UNRELEASED[name]}") from None
        raise UserError(f"no file {name!r} is known; there are {', '.join(CATALOG)}") from None


def published_path(files: Files, source: Source) -> Path:
    """Return where a published file stands on this machine."""
    return Path(files.folder).expanduser() / source.path


def damage_of(source: Source, path: Path) -> str | None:
    """Say what is wrong with a copy of a published file; None if it holds what it must."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "no such file"
    if not path.is_file():
        return "is not a file"
    what = standin(path)
    if what is not None:
        return f"is not the file: {what}"
    expected = expected_size(source)
    if expected is not None and size != expected:
        return f"has {size} bytes where {expected} are expected"
    return wrong_hash(source, file_record(path).sha256)


@dataclass(frozen=True, kw_only=True)
class State:
    """What there is of an external file."""

    path: Path
    word: str
    """`own`, `present`, `missing` or `corrupt`."""
    bytes: int | None
    """Of what is there, else of what there should be, None if that is not known."""
    problem: str | None = None
    """What is wrong, and the way out."""


def state_of(files: Files, name: str) -> State:
    """Say what there is of an external file, one's own or the published one."""
    source = source_of(name)
    try:
        own = own_file(files, name)
    except UserError as error:
        return State(path=Path(files.own[name]), word="missing", bytes=None, problem=str(error))
    if own is not None:
        return State(path=own, word="own", bytes=own.stat().st_size)
    path = published_path(files, source)
    damage = damage_of(source, path)
    if damage is None:
        return State(path=path, word="present", bytes=path.stat().st_size)
    fetch = f"`pcb fetch {name}`" if source.direct else way_out(source)
    if not path.exists():
        return State(path=path, word="missing", bytes=expected_size(source), problem=fetch)
    problem = f"{damage}; {fetch}"
    return State(path=path, word="corrupt", bytes=path.stat().st_size, problem=problem)


def wrong_hash(source: Source, found: str) -> str | None:
    """Say in what a copy's SHA-256 differs from the published or the pinned one."""
    published = source.sha256 or ""
    if not found.startswith(published):
        return f"its SHA-256 is {found}, the published one {published}"
    pinned = read_pins().get(source.name)
    if len(published) < _WHOLE and pinned is not None and found != pinned.sha256:
        return (
            f"its SHA-256 is {found}, but the first copy that was used had {pinned.sha256}; if "
            f"this one is right, delete {source.name} from {PINS}"
        )
    return None


def expected_size(source: Source) -> int | None:
    """Return the bytes of a published file, None while nobody has seen it."""
    pinned = read_pins().get(source.name)
    return source.bytes or (pinned.bytes if pinned is not None else None)


def pin(source: Source, path: Path) -> None:
    """Record a copy of a file whose SHA-256 nobody has published, unless one is recorded."""
    if len(source.sha256 or "") == _WHOLE or source.name in read_pins():
        return
    with hold(LOCKS / "pins.lock", None):
        pins = {source.name: file_record(path)} | read_pins()
        text = msgspec.json.encode(dict(sorted(pins.items())))
        write_atomic(PINS, msgspec.json.format(text, indent=1) + b"\n")


def read_pins() -> dict[str, FileRecord]:
    """Return the recorded sizes and hashes. Raises UserError if they cannot be read."""
    try:
        return msgspec.json.decode(PINS.read_bytes(), type=dict[str, FileRecord])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise UserError(f"{PINS}: unreadable ({error}); restore it with `git checkout`") from None


def way_out(source: Source) -> str:
    """Say where a file is published and how to get it."""
    if not source.direct:
        return (
            f"it is {source.what}; {source.url} leads to a file that is not named: get it there "
            f"and put it here, or name it under files.own.{source.name}"
        )
    return (
        f"it is {source.what}, {source.url} ({size_text(expected_size(source))}): "
        f"`pcb fetch {source.name}` downloads it, `pcb fetch {source.name} --from DIR` takes it "
        f"from a folder"
    )


def size_text(size: int | None) -> str:
    """Return bytes in a form for people: `95.6 MB`."""
    if size is None:
        return "size not published"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
