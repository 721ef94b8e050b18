"""The names of classes that the stage `data` found. No torch."""

import csv
from pathlib import Path

from pcb.errors import UserError

CLASSES = "classes.csv"
"""In the stage's artifact, of a folder of images: label and name."""


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Return the names of the classes, by label; None if there are none or the data is not here.

    folder: the artifact of the stage `data`. Raises UserError for a file that is damaged.
    """
    path = folder / CLASSES
    if not path.exists():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(row["name"] for row in csv.DictReader(file))
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: damaged ({error!r}); make the stage `data` again") from None
