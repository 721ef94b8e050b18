"""The part of README.md that a run measures: a table and two pictures, put there by a command."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pcb.errors import UserError
from pcb.report.marked import put_between
from pcb.report.verdict import says

BEGIN, END = "<!-- measured: `make readme` writes this -->", "<!-- end of measured -->"
_SAMPLES = (
    "A column is one image. Rows, for each ratio: one block per scale, 17 steps, 17 steps guided."
)
PICTURES = ("price.png", "fid.png", "samples.png")
_LEADS = (("holds", "Shown"), ("fails", "Not shown"), ("undecided", "Undecided"))


def update_readme(report: Path, readme: Path, pictures: Path) -> None:
    """Put a report's verdicts, its FID by steps and by guidance, and two pictures into a README.

    Raises UserError if the report is not there or the README has no place for them.
    """
    claims_file = report / "claims.json"
    tables = [
        report / "tables" / f"{name}.md" for name in ("price_by_steps", "fid_by_steps", "guidance")
    ]
    figures = [report / "figures" / name for name in PICTURES]
    for path in (claims_file, *tables, *figures):
        if not path.exists():
            raise UserError(f"{path}: no such file; make the report with `make reproduce`")
    price, curve, samples = (f"![{path.stem}]({pictures / path.name})" for path in figures)
    by_price, by_fid, guided = (path.read_text(encoding="utf-8").strip() for path in tables)
    claims = json.loads(claims_file.read_text(encoding="utf-8"))
    body = "\n\n".join(
        [verdicts(claims), price, by_price, curve, by_fid, guided, samples, _SAMPLES]
    )
    put_between(readme, BEGIN, END, body)
    folder = readme.parent / pictures
    folder.mkdir(parents=True, exist_ok=True)
    for path in figures:
        shutil.copy(path, folder / path.name)


def verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """Return what is shown, what is not and what is undecided, a line per claim, as Markdown.

    `claims` are those of `claims.json`. Each reading says what it found and by which numbers.
    """
    lines = []
    for verdict, lead in _LEADS:
        for claim in claims:
            if claim["verdict"] == verdict:
                found = " ".join(map(_reading, claim["readings"]))
                lines.append(f"- **{lead}: {claim['statement']}** {found}")
    return "\n".join(lines)


def _reading(reading: Mapping[str, Any]) -> str:
    """Return a reading in a sentence: its verdict, with its numbers or with why it has none."""
    because = "; ".join(reading["numbers"])
    because = f"{because}." if because else reading["reason"]
    return f"By {reading['by']} it {says(reading['verdict'])}: {because}"
