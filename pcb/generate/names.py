"""Names of classes, and finding a class by its name or number."""

import difflib
from collections.abc import Sequence

from pcb.config.images import PICTURES
from pcb.errors import UserError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
IMAGENET_CLASSES = 1000
_OFFERED = 3
_ALIKE = 0.5
"""How alike, of 1, a name must be to be offered."""


def class_names(kind: str | None, num_classes: int) -> tuple[str, ...] | None:
    """Return the names of a data set's classes, by number; None if it has none.

    kind: as `data.kind` in params.yaml, None where nothing is known of the data. Names of
    ImageNet's 1000 classes are those in torchvision's metadata.
    """
    if kind == "digits" and num_classes == len(DIGITS):
        return DIGITS
    if kind == "photographs" and num_classes == len(PICTURES):
        return PICTURES
    if kind in ("imagenet", None) and num_classes == IMAGENET_CLASSES:
        return _imagenet_names()
    return None


def find_class(wanted: int | str, names: Sequence[str] | None, num_classes: int) -> int:
    """Return the number of a class given by number (also as text) or by name, in any case.

    Raises UserError that offers the nearest names for one that there is not.
    """
    text = str(wanted).strip()
    if text.lstrip("-").isdecimal():
        number = int(text)
        if not 0 <= number < num_classes:
            raise UserError(f"class {number}: expected a number from 0 to {num_classes - 1}")
        return number
    if names is None:
        raise UserError(
            f"class {text!r}: this model's classes have numbers alone, 0 to {num_classes - 1}"
        )
    plain = [_plain(name) for name in names]
    found = [i for i, name in enumerate(plain) if name == _plain(text)]
    if len(found) > 1:
        numbers = " and ".join(map(str, found))
        raise UserError(f"class {text!r}: several have this name; give a number: {numbers}")
    if found:
        return found[0]
    near = difflib.get_close_matches(_plain(text), plain, _OFFERED, _ALIKE)
    offered = ", ".join(f"{names[i]} ({i})" for i in (plain.index(name) for name in near))
    way_out = f"nearest: {offered}" if offered else f"names go from {names[0]} to {names[-1]}"
    raise UserError(f"no class {text!r}; {way_out}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def _imagenet_names() -> tuple[str, ...] | None:
    try:
        from torchvision.models._meta import _IMAGENET_CATEGORIES
    except Exception:  # torchvision of another build than torch raises RuntimeError and worse.
        return None
    return tuple(_IMAGENET_CATEGORIES)
