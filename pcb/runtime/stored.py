"""Numbers that benchmarks have left in git: rates, ratios and times by device. No torch."""

import json
from pathlib import Path
from typing import Any

from pcb.errors import UserError


def read_stored(path: Path) -> dict[str, dict[str, Any]]:
    """Return what `python -m benchmarks --record` has left in a file, nothing if nothing was.

    Raises UserError if it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); restore it with `git checkout`") from None
    assert isinstance(found, dict)
    return found
