"""Image files of a tree in ImageNet's layout: finding them and reading their bytes. No torch.

Training images stand in a folder per class, in a tar per class, which is read where it lies, or in
one folder with names that say the classes; validation images in a folder per class, or in one
folder with a file (`pcb.data.validation_labels`) or names that say their classes. Labels count the
sorted names of the classes from 0 on.
"""

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pcb.data.validation_labels import validation_labels
from pcb.errors import UserError

SUFFIXES = (".jpeg", ".jpg", ".png")
TAR = ".tar"
_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One image of a tree."""

    path: str
    """Below the tree's root; of a member of a tar, `class.tar/member`."""
    label: int
    offset: int = 0
    """Where it begins in its tar; 0 if it is a file of its own."""
    bytes: int | None = None
    """Its length where that is known: in a tar, and once it was read."""


def tree_root(path: str | None, setting: str) -> Path:
    """Return the folder that a setting names. Raises UserError if it is unset or not there."""
    if path is None:
        raise UserError(
            f"{setting} is not set; name the folder of these images in params.local.yaml "
            f"(docs/imagenet.md)"
        )
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {setting} names it (docs/imagenet.md)")
    return root


def read_file(root: Path, file: File) -> bytes:
    """Return the bytes of an image's file. Raises UserError where it cannot be read."""
    place = root / file.path
    try:
        if not file.offset:
            return place.read_bytes()
        with place.parent.open("rb", buffering=0) as archive:
            archive.seek(file.offset)
            return archive.read(file.bytes)
    except OSError as error:
        raise UserError(
            f"{place}: cannot be read ({error.strerror}); put it back, or make the stage `data` "
            f"again with --force"
        ) from None


def class_names(root: Path) -> list[str]:
    """Return the sorted names of a tree's classes, be they folders, tars or parts of file names.

    Raises UserError if there are none, both folders and tars, or a file whose name says no class.
    """
    folders, tars = sub_folders(root), _tars(root)
    flat = [] if folders or tars else _images(root)
    if flat:
        return sorted({_named_class(root, name) for name in flat})
    if folders and tars:
        raise UserError(
            f"{root}: holds folders ({folders[0]}, ...) and tars ({tars[0]}{TAR}, ...); "
            f"leave one of the two kinds"
        )
    if not folders and not tars:
        raise UserError(f"{root}: holds neither folders nor tars of classes (docs/imagenet.md)")
    return sorted(folders or tars)


def training_files(root: Path, classes: Sequence[str], pool: Executor) -> list[File]:
    """Return the files of the classes' images: class by class, in each sorted by name.

    Raises UserError naming a class without images, or a tar that cannot be read.
    """
    if not sub_folders(root) and not _tars(root):
        known = {name: label for label, name in enumerate(classes)}
        flat = [File(path=name, label=known[_named_class(root, name)]) for name in _images(root)]
        return sorted(flat, key=lambda file: (file.label, file.path))
    files: list[File] = []
    for label, own in enumerate(pool.map(partial(_class_files, root), classes)):
        if not own:
            place = root / classes[label]
            raise UserError(f"{place}: no images ({', '.join(SUFFIXES)}) in this class")
        files += [File(path=p, label=label, offset=o, bytes=n) for p, o, n in own]
    return files


def validation_files(root: Path, classes: Sequence[str]) -> list[File]:
    """Return the files of validation images, sorted by path; `classes` are those of training.

    Raises UserError naming a class that training has not, or an image whose class nothing says.
    """
    flat = _images(root)
    if flat:
        labels = validation_labels(root, flat, classes, class_in_name)
        return [File(path=name, label=labels[name]) for name in flat]
    known = {name: label for label, name in enumerate(classes)}
    folders = sub_folders(root)
    strange = [name for name in folders if name not in known]
    if strange or not folders:
        found = f"holds {_some(strange)}" if strange else "holds no images"
        raise UserError(
            f"{root}: {found}; expected folders of the training images' classes ({_some(classes)})"
            f", or the images themselves with a file of their classes (docs/imagenet.md)"
        )
    return [
        File(path=f"{folder}/{name}", label=known[folder])
        for folder in folders
        for name in _images(root / folder)
    ]


def _class_files(root: Path, name: str) -> list[tuple[str, int, int | None]]:
    """Return path, offset and length of a class's images, sorted by name."""
    if (root / name).is_dir():
        return [(f"{name}/{image}", 0, None) for image in _images(root / name)]
    return sorted(_members(root, f"{name}{TAR}"))


def _members(root: Path, tar: str) -> Iterator[tuple[str, int, int | None]]:
    """Yield path, offset and length of the images in a tar."""
    try:
        with tarfile.open(root / tar, "r:") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isreg() and _is_image(name):
                    check_name(root / tar, name)
                    yield f"{tar}/{name}", member.offset_data, member.size
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{root / tar}: not a readable, plain tar ({error})") from None


def class_in_name(name: str) -> str | None:
    """Return the class that a file's name says, None if it says none.

    It stands behind an underscore at the end, as in the archives of the Hugging Face hub
    (``ILSVRC2012_val_00000293_n01440764.JPEG``), or begins the name (``n01440764_10026.JPEG``).
    """
    stem = name.rpartition(".")[0]
    found = re.search(r"_(n\d{8})$", stem) or re.match(r"(n\d{8})_", stem)
    return found[1] if found else None


def _named_class(root: Path, name: str) -> str:
    found = class_in_name(name)
    if found is None:
        raise UserError(
            f"{root / name}: its name says no class; expected a folder or a tar per class, or "
            "names that end in the class, such as n01440764_10026_n01440764.JPEG (docs/imagenet.md)"
        )
    return found


def _images(folder: Path) -> list[str]:
    """Return the sorted names of the images in a folder; folders and hidden files are none."""
    images = (entry for entry in scan(folder) if _is_image(entry.name))
    names = [entry.name for entry in images if not _is_folder(entry)]
    for name in names:
        check_name(folder, name)
    return names


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def check_name(folder: Path, name: str) -> None:
    """Refuse a name that no index can hold: one that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{folder}: the file name {name!a} is not UTF-8; rename the file") from None


def _tars(folder: Path) -> list[str]:
    """Return the sorted names, without suffix, of the tars in a folder."""
    tars = (entry for entry in scan(folder) if entry.name.endswith(TAR) and not _is_folder(entry))
    return [entry.name.removesuffix(TAR) for entry in tars]


def sub_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, links to folders among them."""
    folders = [entry.name for entry in scan(folder) if _is_folder(entry)]
    for name in folders:
        check_name(folder, name)
    return folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder or a link to one; a link into a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds and does not hide, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(seen, key=lambda entry: entry.name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
