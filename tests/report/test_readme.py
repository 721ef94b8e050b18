"""The measured part of the README is replaced by a report's, and nothing else is."""

from pathlib import Path

import pytest

from pcb.errors import UserError
from pcb.report.readme import (
    BEGIN,
    END,
    PICTURES,
    STUDIES,
    marks_of,
    update_readme,
    update_study,
    verdicts,
)
from tests.tasks import ROOT


def test_the_measured_part_is_replaced(here: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}\nwhat stood here\n{END}\n\nafter\n")
    for _ in range(2):
        update_readme(here / "reports" / "mini", readme, Path("docs/images"))
        text = readme.read_text()
        assert text.startswith("before\n\n") and text.endswith("\n\nafter\n")
        assert "what stood here" not in text
        assert "| steps | ratio2 |" in text
        for name in PICTURES:
            assert f"(docs/images/{name})" in text
            assert (tmp_path / "docs" / "images" / name).stat().st_size


def test_a_readme_without_the_place_is_refused(here: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    with pytest.raises(UserError, match="needs the lines"):
        update_readme(here / "reports" / "mini", readme, Path("docs/images"))
    assert readme.read_text() == "nothing"


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make reproduce"):
        update_readme(tmp_path, tmp_path / "README.md", Path("docs/images"))


def test_the_projects_readme_has_the_place() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_a_study_gets_its_own_part_of_the_document(here: Path, tmp_path: Path) -> None:
    document = tmp_path / "studies.md"
    begin, end = marks_of("mini-photos")
    other, its_end = marks_of("mini-seeds")
    document.write_text(f"{other}\nseeds\n{its_end}\n\n{begin}\nwhat stood here\n{end}\n")
    report = here / "reports" / "mini"
    update_study("mini-photos", report, document, "What was found.")
    text = document.read_text()
    assert text.startswith(f"{other}\nseeds\n{its_end}\n\n{begin}\n\nWhat was found.\n\n![price]")
    assert "what stood here" not in text
    assert (report / "tables" / "price_by_steps.md").read_text().strip() in text
    assert "(images/mini-photos-price.png)" in text
    assert (tmp_path / "images" / "mini-photos-price.png").stat().st_size


def test_the_document_of_studies_has_all_places() -> None:
    text = (ROOT / "docs" / "studies.md").read_text()
    for preset in STUDIES:
        assert all(text.count(mark) == 1 for mark in marks_of(preset))


def test_a_reading_says_shortly_why_it_does_not_hold() -> None:
    check = {"subject": "ratio2: rise", "outcome": "holds", "close_to_limit": False}
    close = {**check, "outcome": "undecided", "close_to_limit": True}
    failed = {**check, "outcome": "fails"}
    reading = {"by": "FID", "numbers": ["5 % rise (limit: at least 9 %)"], "reason": "A reason."}
    said = [
        verdicts([{"statement": "So.", "verdict": verdict, "readings": [found]}])
        for verdict, checks in (
            ("holds", [check]),
            ("undecided", [check, close]),
            ("fails", [close, failed, check]),
            ("undecided", [check]),
        )
        for found in [{**reading, "verdict": verdict, "checks": checks}]
    ]
    numbers = "5 % rise (limit: at least 9 %)."
    assert said == [
        f"- **Shown: So.** By FID it holds: {numbers}",
        f"- **Undecided: So.** By FID it is undecided: {numbers} 1 of 2 lies within two standard "
        "errors of the limit: ratio2.",
        f"- **Not shown: So.** By FID it fails: {numbers} 1 of 3 fails: ratio2.",
        f"- **Undecided: So.** By FID it is undecided: {numbers} A reason.",
    ]
