"""Parts of documents that a command writes between two marker lines. No torch."""

import re
from pathlib import Path

from pcb.errors import UserError
from pcb.runtime.atomic import write_atomic


def put_between(path: Path, begin: str, end: str, body: str) -> None:
    """Put a text between the lines `begin` and `end` of a document, in place of what is there.

    Raises UserError unless both stand in it, `begin` once.
    """
    text = path.read_text(encoding="utf-8")
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    if len(re.findall(pattern, text, flags=re.DOTALL)) != 1 or text.count(begin) != 1:
        raise UserError(f"{path}: needs the lines {begin!r} and {end!r}, once each")
    whole = f"{begin}\n\n{body}\n\n{end}"
    write_atomic(path, re.sub(pattern, lambda _: whole, text, flags=re.DOTALL))
