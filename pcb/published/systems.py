"""The systems of the paper's table that are not its own, read from `systems.yaml`. No torch."""

from functools import cache
from pathlib import Path

import msgspec
import yaml

from pcb.published.system import System

_FILE = Path(__file__).with_name("systems.yaml")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def catalog() -> dict[str, System]:
    """Return the systems by name, in the order of the file."""
    content = yaml.load(_FILE.read_bytes(), Loader=_Loader)
    known, found = content["deviations"], {}
    for entry in content["systems"]:
        named = [known.get(d, d) if isinstance(d, str) else d for d in entry["deviations"]]
        found[entry["name"]] = msgspec.convert({**entry, "deviations": named}, System)
    return found
