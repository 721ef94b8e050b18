"""The part of README.md that a run measures: a table and two pictures, put there by a command."""

import re
import shutil
from pathlib import Path

from pcb.atomic import write_atomic
from pcb.errors import UserError

BEGIN, END = "<!-- measured: `make readme` writes this -->", "<!-- end of measured -->"
PICTURES = ("fid.png", "samples.png")


def update_readme(report: Path, readme: Path, pictures: Path) -> None:
    """Put a report's table of FID by steps, its guided rows and two pictures into a README.

    Raises UserError if the report is not there or the README has no place for them.
    """
    tables = [report / "tables" / f"{name}.md" for name in ("fid_by_steps", "guidance")]
    figures = [report / "figures" / name for name in PICTURES]
    for path in (*tables, *figures):
        if not path.exists():
            raise UserError(f"{path}: no such file; make the report with `make reproduce`")
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UserError(f"{readme}: needs the lines {BEGIN!r} and {END!r}, once each")
    shown = [f"![{path.stem}]({pictures / path.name})" for path in figures]
    parts = [path.read_text(encoding="utf-8").strip() for path in tables]
    body = "\n\n".join([BEGIN, shown[0], *parts, shown[1], END])
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    write_atomic(readme, re.sub(pattern, lambda _: body, text, flags=re.DOTALL))
    folder = readme.parent / pictures
    folder.mkdir(parents=True, exist_ok=True)
    for path in figures:
        shutil.copy(path, folder / path.name)
