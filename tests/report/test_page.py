"""The page in a real browser: no request, no error, no overflow, and its controls work."""

import csv
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.report.browser import Browser, find_chromium

PAGE = Path("reports") / "mini" / "index.html"
CHROMIUM = find_chromium()
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (apt install chromium)"
)


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that opens the page in a real Chromium."""
    return pytest.mark.service(needs_chromium(test))


FIDS = """[...document.querySelectorAll("#table-results tbody tr")].map(
    row => parseFloat(row.cells[6].textContent))"""
SORT = """[...document.querySelectorAll("#table-results thead th")][6]"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a running browser."""
    assert CHROMIUM is not None
    running = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


def test_the_page_refers_to_nothing_outside(here: Path) -> None:
    text = PAGE.read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert addresses and all(a.startswith(("#", "data:")) for a in addresses)
    targets = {a[1:] for a in addresses if a.startswith("#")}
    assert targets <= set(re.findall(r' id="([^"]+)"', text))
    assert not re.search(r"url\((?!#)", text) and "@import" not in text


def test_ids_are_unique(here: Path) -> None:
    ids = re.findall(r' id="([^"]+)"', PAGE.read_text())
    assert len(ids) == len(set(ids))


@in_browser
@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("dark", [False, True])
def test_it_loads_offline_without_error_or_overflow(
    here: Path, browser: Browser, width: int, dark: bool
) -> None:
    browser.open(here / PAGE, width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.images.length") > 40
    assert browser.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    sent = browser.happened("Network.requestWillBeSent")
    asked = {event["params"]["request"]["url"] for event in sent}
    assert {a for a in asked if not a.startswith("data:")} == {(here / PAGE).as_uri()}
    assert browser.happened("Runtime.exceptionThrown", "Log.entryAdded") == []
    assert browser.happened("Runtime.consoleAPICalled") == []


@in_browser
def test_tables_sort_in_both_directions(here: Path, browser: Browser) -> None:
    browser.open(here / PAGE, 1600)
    for direction in ("ascending", "descending"):
        browser.evaluate(f"{SORT}.querySelector('button').click()")
        assert browser.evaluate(f"{SORT}.getAttribute('aria-sort')") == direction
        assert browser.evaluate(FIDS) == sorted(
            browser.evaluate(FIDS), reverse=direction == "descending"
        )


@in_browser
def test_figures_enlarge_and_close(here: Path, browser: Browser) -> None:
    browser.open(here / PAGE, 1600)
    browser.evaluate("document.querySelector('#figure-fid .enlarge').click()")
    assert browser.evaluate("document.querySelector('dialog').open")
    assert browser.evaluate("document.querySelectorAll('dialog svg').length") == 1
    browser.evaluate("document.querySelector('dialog .close').click()")
    assert not browser.evaluate("document.querySelector('dialog').open")


@in_browser
def test_the_theme_can_be_switched(here: Path, browser: Browser) -> None:
    browser.open(here / PAGE, 1600)
    color = "getComputedStyle(document.body).backgroundColor"
    before = browser.evaluate(color)
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(color) != before


@in_browser
def test_every_figure_and_picture_is_named_for_screen_readers(here: Path, browser: Browser) -> None:
    browser.open(here / PAGE, 400)
    assert browser.evaluate("[...document.images].every(i => i.alt)")
    assert browser.evaluate(
        "[...document.querySelectorAll('figure svg')].every(s => s.getAttribute('aria-label'))"
    )
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1
    assert browser.evaluate("[...document.querySelectorAll('table')].every(t => t.caption)")


def test_numbers_lead_to_where_they_come_from(here: Path) -> None:
    page = (here / PAGE).read_text()
    ids = set(re.findall(r' id="([^"]+)"', page))
    links = re.findall(r'<a href="#([^"]+)"', page)
    assert set(links) <= ids
    assert {"task-metrics-ratio2-t17", "task-train-ratio3", "task-tokenizer-all"} <= set(links)
    # The table, the map by steps, and the checks of the claims.
    assert links.count("task-metrics-ratio2-t17") >= 4


def choose(browser: Browser, file: Path) -> str:
    """Choose another run's file, as a person would, and return what the page says."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#other")["nodeId"]
    browser.evaluate("document.getElementById('compared').textContent = ''")
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
    said = ""
    limit = time.monotonic() + 20
    while not said:
        assert time.monotonic() < limit
        said = browser.evaluate("document.getElementById('compared').textContent")
    return said


@in_browser
def test_another_run_is_compared_row_by_row(here: Path, browser: Browser, tmp_path: Path) -> None:
    with (here / PAGE).with_name("metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    other = tmp_path / "other.csv"
    with other.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        # The first row was not run there; the others are worse by a quarter.
        for row in rows[1:]:
            writer.writerow({**row, "fid": float(row["fid"]) * 1.25})
    browser.open(here / PAGE, 1600)
    assert (
        choose(browser, other) == f"{len(rows) - 1} of {len(rows)} settings were measured in both."
    )
    cells = (
        "[...document.querySelectorAll('#comparison tbody tr')].map(r => r.cells[5].textContent)"
    )
    differences = browser.evaluate(cells)
    assert differences[0] == "–"
    assert all(text.endswith("(-20.0 %)") for text in differences[1:])
    asked = [e["params"]["request"]["url"] for e in browser.happened("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [(here / PAGE).as_uri()]
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    assert "is no metrics.csv" in choose(browser, tmp_path / "wrong.csv")
