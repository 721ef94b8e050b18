"""The classes of validation images that stand in one folder. No torch.

One of these files says them, looked for in this order: ``LOC_val_solution.csv`` of Kaggle's copy;
``ILSVRC2012_validation_ground_truth.txt`` of the development kit together with its ``meta.mat``,
here or in ``ILSVRC2012_devkit_t12/data``; ``val.txt``, lines of a name and a class or label.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pcb.config.read_yaml import read_text
from pcb.errors import UserError

KAGGLE = "LOC_val_solution.csv"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
KIT = "ILSVRC2012_devkit_t12/data"
TEXT = "val.txt"


def validation_labels(
    root: Path,
    names: Sequence[str],
    classes: Sequence[str],
    named: Callable[[str], str | None],
) -> dict[str, int]:
    """Return the label of each image of a folder; `classes` are the sorted names of all classes.

    Without any of the files, `named` returns the class that an image's name says, or None.

    Raises UserError if no file says them, or the one that does leaves an image out or names a
    class that there is not.
    """
    known = {name: label for label, name in enumerate(classes)}
    if (root / KAGGLE).exists():
        source, found = root / KAGGLE, _kaggle(root / KAGGLE)
        said = {name: found.get(Path(name).stem) for name in names}
    elif (kit := _kit(root)) is not None:
        source, numbered = kit / TRUTH, _devkit(kit)
        said = {name: numbered.get(_number(name)) for name in names}
    elif (root / TEXT).exists():
        source, found = root / TEXT, _text(root / TEXT)
        known |= {str(label): label for label in range(len(classes))}
        said = {name: found.get(name) for name in names}
    elif named(names[0]) is not None:
        source, said = root, {name: named(name) for name in names}
    else:
        raise UserError(
            f"{root}: no file says the classes of these images; put one there: {KAGGLE}, "
            f"{TRUTH} with {META}, or {TEXT} (docs/imagenet.md)"
        )
    return {name: _label(source, name, said[name], known) for name in names}


def _label(source: Path, image: str, name: str | None, known: Mapping[str, int]) -> int:
    if name is None:
        raise UserError(f"{source}: says nothing of {image}")
    if name not in known:
        raise UserError(f"{source}: {image} is of class {name}, which the training images lack")
    return known[name]


def _kaggle(path: Path) -> dict[str, str]:
    """Return the class of each image, by its name without suffix.

    A prediction string holds a class and a box for each object; all are of one class.
    """
    rows = list(csv.reader(io.StringIO(read_text(path), newline="")))
    if not rows or rows[0] != ["ImageId", "PredictionString"]:
        raise UserError(f"{path}: expected the columns ImageId,PredictionString")
    return {row[0]: row[1].split()[0] for row in rows[1:] if len(row) > 1 and row[1].split()}


def _kit(root: Path) -> Path | None:
    """Return the folder that holds the development kit's ground truth."""
    return next((place for place in (root, root / KIT) if (place / TRUTH).exists()), None)


def _devkit(kit: Path) -> dict[int, str]:
    """Return the class of each image, by its number from 1 on.

    The kit numbers classes in an order of its own, which only its `meta.mat` (MATLAB) knows.
    """
    # Imported here: few need it.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with (kit / META).open("rb") as file:
            synsets = loadmat(file, squeeze_me=True)["synsets"]
        numbers = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets}
    except FileNotFoundError:
        raise UserError(
            f"{kit / META}: no such file; the class numbers of {TRUTH} mean nothing without it"
        ) from None
    except (MatReadError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{kit / META}: not the development kit's table ({error})") from None
    lines = read_text(kit / TRUTH).split()
    try:
        return {k: numbers[int(line)] for k, line in enumerate(lines, start=1)}
    except (ValueError, KeyError) as error:
        raise UserError(f"{kit / TRUTH}: {error} is no class number of {META}") from None


def _number(name: str) -> int:
    """Return the number of an image: 7 of `ILSVRC2012_val_00000007.JPEG`, 0 if it has none."""
    digits = re.search(r"(\d+)\.\w+$", name)
    return int(digits[1]) if digits else 0


def _text(path: Path) -> dict[str, str]:
    """Return the class or label of each image by its name."""
    found = {}
    for line in read_text(path).splitlines():
        words = line.split()
        if words and len(words) != 2:
            raise UserError(f"{path}: expected a name and a class in each line, found {line!r}")
        if words:
            found[Path(words[0]).name] = words[1]
    return found
