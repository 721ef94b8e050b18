"""The report's page: values in, one HTML file out that needs no other file and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pcb.report.tables import Table, anchor
from pcb.report.verdict import Claim, percent, says

_HERE = Path(__file__).parent
SECTIONS = (
    ("overview", "Overview"),
    ("steps", "Scores"),
    ("likelihood", "Likelihood"),
    ("samples", "Samples"),
    ("ablations", "Ablations"),
    ("order", "Order"),
    ("tokenizer", "Tokenizer"),
    ("training", "Training"),
    ("codes", "Chosen codes"),
    ("published", "Published"),
    ("compare", "Compare runs"),
    ("provenance", "Provenance"),
)
_ABSENT = Markup(
    '<p class="notice absent">not run: there are no {} yet, or not on this machine</p>'
)


@dataclass(frozen=True, kw_only=True)
class FigureView:
    """A figure on the page."""

    name: str
    section: str
    title: str
    caption: str
    svg: Markup
    wide: bool = False
    """Scrolls sideways on a narrow screen instead of shrinking."""


@dataclass(frozen=True, kw_only=True)
class StripView:
    """A row of small images."""

    label: str
    description: str
    images: tuple[str, ...]
    """Addresses that hold a PNG each."""
    has_columns: bool = False
    """Whether these are pictures beside each other, of the grid's columns."""


@dataclass(frozen=True, kw_only=True)
class GridView:
    """Rows of small images below each other."""

    name: str
    section: str
    title: str
    caption: str
    strips: tuple[StripView, ...]
    columns: tuple[str, ...]
    """What the pictures of every row show, in their order."""
    per_strip: int
    """Pictures in each PNG of a strip but perhaps the last."""
    gap: int
    """Pixels between two pictures in a PNG."""
    commands: tuple[str, ...] = ()
    """What makes the pictures again."""
    classes: int = 0
    """Number of classes, where a column is an image and its class goes round; 0 elsewhere."""


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """Where one result comes from; no content means that it was not run."""

    name: str
    anchor: str
    key: str
    content: str = ""
    seconds: str = ""
    commit: str = ""
    machine: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the page shows."""

    preset: str
    description: str
    missing: str
    """What was not run, in a sentence; empty for a whole report."""
    scores_note: str
    labels_note: str
    comparable_note: str
    tokenizer_note: str
    """Whose tokenizer it is, where it is not the preset's own; empty if it was not made."""
    orders_note: str
    """What a comparison of orders shows; empty if there is none."""
    metrics: Markup
    """The text of `metrics.csv`, which another run's is compared with."""
    claims: Sequence[Claim]
    figures: Sequence[FigureView]
    grids: Sequence[GridView]
    tables: Mapping[str, Table]
    tasks: Sequence[TaskView]
    settings: str
    sections: tuple[tuple[str, str], ...] = SECTIONS


def render(page: Page) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["says"] = says
    environment.filters["anchor"] = anchor
    environment.globals["absent"] = _ABSENT.format
    return environment.get_template("page.html").render(
        page=page, css=Markup(_text("page.css")), js=Markup(_text("page.js"))
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
