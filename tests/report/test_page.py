"""The page in a real browser: no request, no error, no overflow, and its controls work."""

import csv
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pcb.pipeline.tasks import Pipeline
from pcb.report.evidence import Evidence
from pcb.report.pictures import decode_images
from pcb.tokenizer.load import load_tokenizer
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
        choose(browser, other)
        == f"{len(rows) - 1} of {len(rows)} sampling configs were measured in both."
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


LOOK = "document.querySelector('#figure-samples-ratio2 .look').click()"
WHICH = "document.querySelector('#viewer .which').textContent"
SHOWN = """[...document.querySelectorAll('#viewer canvas')].map(canvas => [...
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data])"""


def press(browser: Browser, key: str) -> None:
    """Press and release a key, as a person would."""
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def pictures_of(mini: Pipeline, image: int) -> list[list[int]]:
    """Return one image at every setting of `ratio2`, as bytes of RGBA, in the grid's order."""
    folder = mini.task("tokenizer").artifact
    tokenizer = load_tokenizer(folder, mini.preset.tokenizer.autoencoder)
    evidence = Evidence.of(mini)
    rows = [row for row in evidence.rows() if row.model == "ratio2"]
    found = []
    for row in sorted(rows, key=lambda row: (row.guided, row.steps)):
        codes = evidence.codes(row, image + 1)
        assert codes is not None
        pixels = decode_images(tokenizer, codes, row.schedule.sizes)[image].transpose(1, 2, 0)
        opaque = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], 2)
        found.append(opaque.flatten().tolist())
    return found


@in_browser
def test_one_image_is_seen_at_all_step_counts(here: Path, browser: Browser, mini: Pipeline) -> None:
    browser.open(here / PAGE, 1600)
    browser.evaluate(LOOK)
    assert browser.evaluate(WHICH) == "image 0, class 0 (1 of 20)"
    assert browser.evaluate("document.querySelector('#viewer .previous').ariaDisabled") == "true"
    assert browser.evaluate("document.activeElement.className") == "next"
    labels = "[...document.querySelectorAll('#viewer figcaption')].map(c => c.textContent)"
    assert browser.evaluate(labels) == [
        *(f"{steps} steps" for steps in (4, 13, 17, 37)),
        "17 steps, cfg 1.5",
    ]
    # The second strip's pictures begin with image 10.
    for image, keys in ((1, ["ArrowRight"]), (11, 10 * ["ArrowRight"]), (19, ["End"])):
        for key in keys:
            press(browser, key)
        assert browser.evaluate(WHICH).startswith(f"image {image}, class {image % 10} ")
        assert browser.evaluate(SHOWN) == pictures_of(mini, image)
    press(browser, "ArrowRight")
    press(browser, "ArrowLeft")
    assert browser.evaluate(WHICH) == "image 18, class 8 (19 of 20)"
    press(browser, "Home")
    browser.evaluate("document.querySelector('#viewer .next').click()")
    assert browser.evaluate(WHICH) == "image 1, class 1 (2 of 20)"
    browser.evaluate("document.querySelector('#viewer .close').click()")
    assert not browser.evaluate("document.getElementById('viewer').open")
    assert browser.happened("Runtime.exceptionThrown", "Log.entryAdded") == []


@in_browser
@pytest.mark.parametrize("width", [400, 1600])
def test_an_image_opens_at_a_click_and_turns_at_a_swipe(
    here: Path, browser: Browser, width: int
) -> None:
    browser.open(here / PAGE, width)
    corner = "document.querySelectorAll('#figure-samples-ratio3 .strip:nth-child(2) img')[1]"
    browser.evaluate(f"{corner}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    box = browser.evaluate(
        f"(r => [r.x, r.y, r.width, r.height])({corner}.getBoundingClientRect())"
    )
    # The third of ten pictures.
    at = {"x": box[0] + 0.25 * box[2], "y": box[1] + 0.5 * box[3]}
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)
    assert browser.evaluate(WHICH) == "image 12, class 2 (13 of 20)"
    assert browser.evaluate(
        "(v => v.scrollWidth <= v.clientWidth)(document.querySelector('#viewer'))"
    )
    box = browser.evaluate(
        "(r => [r.x, r.y])(document.querySelector('#viewer .same').getBoundingClientRect())"
    )
    for start, end, image in ((150, 40, 13), (40, 150, 12), (40, 50, 12)):
        for kind, x in (("touchStart", start), ("touchMove", end), ("touchEnd", None)):
            points = [] if x is None else [{"x": box[0] + x, "y": box[1] + 30}]
            browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        assert browser.evaluate(WHICH).startswith(f"image {image}, ")


@in_browser
def test_a_command_is_copied(here: Path, browser: Browser) -> None:
    browser.open(here / PAGE, 1600)
    browser.call(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    browser.evaluate(LOOK)
    press(browser, "End")
    place = "document.querySelector('#viewer .command:last-child button')"
    browser.evaluate(f"{place}.click()")
    limit = time.monotonic() + 20
    while browser.evaluate(f"{place}.textContent") != "Copied":
        assert time.monotonic() < limit
    answer = browser.call(
        "Runtime.evaluate",
        expression="navigator.clipboard.readText()",
        awaitPromise=True,
        returnByValue=True,
    )
    assert answer["result"]["value"] == (
        "pcb generate ratio2 --classes 9 --count 2 --steps 17 --cfg 1.5 --seed 0 --preset mini"
    )


@in_browser
def test_without_scripts_grids_and_commands_are_there(here: Path, browser: Browser) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(here / PAGE, 1600)
        # DevTools reads the page all the same.
        root = browser.call("DOM.getDocument")["root"]["nodeId"]
        grid = browser.call("DOM.querySelector", nodeId=root, selector="#figure-samples-ratio2")
        text = browser.call("DOM.getOuterHTML", nodeId=grid["nodeId"])["outerHTML"]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "<button" not in text and text.count("<img") == 2 * 5
    assert "--steps 4 13 17 37 --seed 0 --preset mini</code>" in text
