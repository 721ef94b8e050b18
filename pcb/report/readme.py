"""Parts of README.md and of docs/studies.md that a run measures, put there by a command."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcb.errors import UserError
from pcb.report.document_parts import put_between
from pcb.report.verdict import says, verb_of

BEGIN, END = "<!-- measured: `make readme` writes this -->", "<!-- end of measured -->"
_SAMPLES = (
    "A column is one image. Rows, for each ratio: one block per scale, 17 steps, 17 steps guided."
)
PICTURES = ("price.png", "fid.png", "samples.png")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What docs/studies.md shows of a preset's report, by name."""

    tables: tuple[str, ...]
    figures: tuple[str, ...] = ()


STUDIES = {
    "mini-seeds": Study(tables=("likelihood_seeds", "seeds")),
    "mini-photos": Study(tables=("price_by_steps", "likelihood_seeds"), figures=("price",)),
    "mini-orders": Study(tables=("orders", "likelihood_seeds"), figures=("orders",)),
}
_LEADS = (("holds", "Shown"), ("fails", "Not shown"), ("undecided", "Undecided"))


def update_readme(report: Path, readme: Path, pictures: Path) -> None:
    """Put a report's verdicts, its FID by steps and by guidance, and two pictures into a README.

    Raises UserError if the report is not there or the README has no place for them.
    """
    claims_file = _there(report / "claims.json")
    price, by_fid, guided = _tables(report, ("price_by_steps", "fid_by_steps", "guidance"))
    price_curve, fid_curve, samples = _figures(report, PICTURES, readme.parent, pictures)
    claims = json.loads(claims_file.read_text(encoding="utf-8"))
    body = [verdicts(claims), price_curve, price, fid_curve, by_fid, guided, samples, _SAMPLES]
    put_between(readme, BEGIN, END, "\n\n".join(body))


def update_study(preset: str, report: Path, document: Path, said: str) -> None:
    """Put the tables and figures of a study's report into its place in a document.

    said: the report's verdict in words, empty if it has none. Figures go into the folder `images`
    beside the document. Raises UserError as `update_readme` does.
    """
    study = STUDIES[preset]
    names = [f"{name}.png" for name in study.figures]
    figures = _figures(report, names, document.parent, Path("images"), f"{preset}-")
    body = [said, *figures, *_tables(report, study.tables)]
    begin, end = marks_of(preset)
    put_between(document, begin, end, "\n\n".join(part for part in body if part))


def marks_of(preset: str) -> tuple[str, str]:
    """Return the lines of docs/studies.md between which a preset's part stands."""
    return (
        f"<!-- measured: `pcb readme --preset {preset}` writes this -->",
        f"<!-- end of {preset} -->",
    )


def _tables(report: Path, names: Sequence[str]) -> list[str]:
    paths = [_there(report / "tables" / f"{name}.md") for name in names]
    return [path.read_text(encoding="utf-8").strip() for path in paths]


def _figures(
    report: Path, names: Sequence[str], root: Path, folder: Path, prefix: str = ""
) -> list[str]:
    """Copy figures into a folder below that of a document; return the lines that show them."""
    paths = [_there(report / "figures" / name) for name in names]
    (root / folder).mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, root / folder / f"{prefix}{path.name}")
    return [f"![{path.stem}]({folder / f'{prefix}{path.name}'})" for path in paths]


def _there(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path}: no such file; make the report with `make reproduce`")
    return path


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
    numbers = "; ".join(reading["numbers"])
    why = _why(reading) if numbers else reading["reason"]
    because = " ".join(filter(None, [f"{numbers}." if numbers else "", why]))
    return f"By {reading['by']} it {says(reading['verdict'])}: {because}"


def _why(reading: Mapping[str, Any]) -> str:
    """Say in a few words why a reading with numbers does not hold; nothing where it does."""
    checks = reading["checks"]
    failed = [check["subject"].split(":")[0] for check in checks if check["outcome"] == "fails"]
    close = [check["subject"].split(":")[0] for check in checks if check["close_to_limit"]]
    if failed:
        return f"{len(failed)} of {len(checks)} {verb_of(failed, 'fail')}: {', '.join(failed)}."
    if close:
        within = (
            f"{len(close)} of {len(checks)} {verb_of(close, 'lie')} within two standard errors of "
            "the limit"
        )
        return f"{within}: {', '.join(close)}."
    return "" if reading["verdict"] == "holds" else str(reading["reason"])
