"""The part of README.md that a run measures: a table and two pictures, put there by a command."""

import json
import shutil
from pathlib import Path

from pcb.errors import UserError
from pcb.report.marked import put_between

BEGIN, END = "<!-- measured: `make readme` writes this -->", "<!-- end of measured -->"
_SAMPLES = (
    "A column is one image. Rows, for each ratio: one block per scale, 17 steps, 17 steps guided."
)
PICTURES = ("fid.png", "samples.png")


def update_readme(report: Path, readme: Path, pictures: Path) -> None:
    """Put a report's verdicts, its FID by steps and by guidance, and two pictures into a README.

    Raises UserError if the report is not there or the README has no place for them.
    """
    claims_file = report / "claims.json"
    tables = [report / "tables" / f"{name}.md" for name in ("fid_by_steps", "guidance")]
    figures = [report / "figures" / name for name in PICTURES]
    for path in (claims_file, *tables, *figures):
        if not path.exists():
            raise UserError(f"{path}: no such file; make the report with `make reproduce`")
    curve, samples = (f"![{path.stem}]({pictures / path.name})" for path in figures)
    parts = [path.read_text(encoding="utf-8").strip() for path in tables]
    claims = json.loads(claims_file.read_text(encoding="utf-8"))
    verdicts = "\n".join(f"- {c['statement']} **{c['verdict']}.** {c['reason']}" for c in claims)
    body = "\n\n".join([curve, verdicts, *parts, samples, _SAMPLES])
    put_between(readme, BEGIN, END, body)
    folder = readme.parent / pictures
    folder.mkdir(parents=True, exist_ok=True)
    for path in figures:
        shutil.copy(path, folder / path.name)
