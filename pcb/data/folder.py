"""Images of one's own, a sub-folder per class, as torchvision's ImageFolder reads them. No torch.

Which files there are, of which class, and which of them are held out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pcb.config import ImageFolder
from pcb.data.tree import File, check_name, scan, sub_folders
from pcb.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
TRAIN, HELD_OUT, TEST = "train", "val", "test"
"""Sub-folders that are splits, not classes; nothing reads the last."""
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """The images of a folder; their paths stand below it."""

    classes: tuple[str, ...]
    """Sorted names; labels count them from 0 on."""
    train: tuple[File, ...]
    """Class by class, in each sorted by path."""
    held_out: tuple[File, ...]
    """Classes in turn, so that the first few show all of them."""
    ignored: int
    """Files in the folders of classes whose names are not of images."""


def folder_root(settings: ImageFolder) -> Path:
    """Return the folder of the images. Raises UserError if it is not there."""
    root = Path(settings.folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; data.folder names it (docs/own-images.md)")
    return root


def find_images(settings: ImageFolder) -> Found:
    """Look through a folder, without opening a file.

    Held-out images are those of its sub-folder `val`, if there is one, else a fraction of each
    class: those whose paths have the least hashes, whatever order the disk tells them in.

    Raises UserError naming the folder if its classes are not as many as the settings say, or one
    has no images, or too few to hold one out.
    """
    root = folder_root(settings)
    train, held_out = _splits(root)
    classes = _classes(root / train, settings)
    files, ignored = _files(root, train, classes)
    for name, own in zip(classes, files, strict=True):
        if not own:
            raise UserError(f"{root / train / name}: no images ({', '.join(SUFFIXES)}) in it")
    if held_out is None:
        kept, held = _hold_out(root, classes, files, settings.held_out)
    else:
        _check_same(root, held_out, classes)
        kept, (held, more) = files, _files(root, held_out, classes)
        ignored += more
    return Found(
        classes=tuple(classes),
        train=tuple(file for own in kept for file in own),
        held_out=tuple(file for turn in zip_longest(*held) for file in turn if file is not None),
        ignored=ignored,
    )


def _splits(root: Path) -> tuple[str, str | None]:
    """Return below which sub-folders classes to train on and held-out ones stand."""
    folders = set(sub_folders(root))
    held_out = HELD_OUT if HELD_OUT in folders and sub_folders(root / HELD_OUT) else None
    train = TRAIN if TRAIN in folders and folders <= {TRAIN, HELD_OUT, TEST} else "."
    return train, held_out


def _classes(folder: Path, settings: ImageFolder) -> list[str]:
    """Return the sorted names of the classes."""
    names = [n for n in sub_folders(folder) if n != HELD_OUT or not sub_folders(folder / n)]
    if len(names) != settings.num_classes:
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        found = f"{len(names)} sub-folders ({shown})" if names else "no sub-folders"
        raise UserError(
            f"{folder}: {found} where data.num_classes = {settings.num_classes}; there must be a "
            "sub-folder per class (docs/own-images.md)"
        )
    return names


def _check_same(root: Path, held_out: str, classes: Sequence[str]) -> None:
    """Refuse held-out classes that there are none of to train on."""
    strange = sorted(set(sub_folders(root / held_out)) - set(classes))
    if strange:
        raise UserError(
            f"{root / held_out / strange[0]}: no class {strange[0]!r} to train on; rename the "
            "folder, or take it away"
        )


def _files(root: Path, split: str, classes: Sequence[str]) -> tuple[list[list[File]], int]:
    """Return each class's images, sorted by path, and the number of other files."""
    found, ignored = [], 0
    for label, name in enumerate(classes):
        place = root / split / name
        paths = sorted(_paths(place)) if place.is_dir() else []
        images = [path for path in paths if path.lower().endswith(SUFFIXES)]
        ignored += len(paths) - len(images)
        above = (Path(split) / name).as_posix()
        found.append([File(path=f"{above}/{path}", label=label) for path in images])
    return found, ignored


def _paths(folder: Path, above: str = "") -> Iterator[str]:
    """Yield the files below a folder; hidden ones are none, and no link to a folder is followed."""
    for entry in scan(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _paths(folder / entry.name, f"{above}{entry.name}/")
        elif entry.is_file():
            check_name(folder, entry.name)
            yield above + entry.name


def _hold_out(
    root: Path, classes: Sequence[str], files: Sequence[Sequence[File]], fraction: float
) -> tuple[list[list[File]], list[list[File]]]:
    """Split each class in images to train on and held-out ones, at least one of either."""
    kept, held = [], []
    for name, own in zip(classes, files, strict=True):
        if len(own) < 2:
            raise UserError(
                f"{root / name}: one image cannot be both trained on and held out; add some, or "
                f"put held-out images into {root / HELD_OUT / name}"
            )
        count = min(max(round(fraction * len(own)), 1), len(own) - 1)
        chosen = set(sorted((file.path for file in own), key=_hash)[:count])
        kept.append([file for file in own if file.path not in chosen])
        held.append([file for file in own if file.path in chosen])
    return kept, held


def _hash(path: str) -> bytes:
    return hashlib.sha256(path.encode()).digest()
