"""The style of all figures: one color, marker and line style per ratio, and one way to save.

Colors are Okabe and Ito's, told apart by the color-blind; markers and line styles carry the same
information, so that figures survive a grayscale printer. On the page the same SVG is used with its
colors replaced by the page's variables, so that it follows the light or dark theme.
"""

import io
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, GRID, PAPER = "#24292f", "#57606a", "#d8dee4", "#ffffff"
_BLUE, _VERMILLION, _GREEN, _PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
_ORANGE, _SKY, _BLACK = "#e69f00", "#56b4e9", "#000000"
PALETTE = (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY, _BLACK)
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--grid",
    PAPER: "--card",
    _BLUE: "--blue",
    _VERMILLION: "--vermillion",
    _GREEN: "--green",
    _PURPLE: "--purple",
    _ORANGE: "--orange",
    _SKY: "--sky",
    _BLACK: "--black",
}
"""Color in a figure's file -> variable of the page that replaces it there."""

_PIXELS_AN_INCH = 160
_UNDATED: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Metadata that keeps clock and version out of the files."""

KINDS = tuple(_UNDATED)
"""The formats in which every figure is written."""

_NO_STYLE = ("backend", "interactive", "tk.", "toolbar", "webagg.", "savefig.directory")
"""Beginnings of the names of Matplotlib's settings that are of windows, not of figures."""
_DEFAULTS = {
    name: value
    for name, value in matplotlib.rcParamsDefault.items()
    if not name.startswith(_NO_STYLE)
}
SETTINGS: dict[Any, Any] = _DEFAULTS | {
    "pdf.fonttype": 42,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "figure.facecolor": PAPER,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "pcb",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}
"""For `matplotlib.rc_context`, which decorates every function that plots.

All that a figure depends on is in it, so that nobody's own matplotlibrc changes one.
"""


@dataclass(frozen=True, kw_only=True)
class LineStyle:
    """What tells one line from the others."""

    color: str
    marker: str
    dash: Literal["-", "--", "-.", ":"]


_SINGLE = LineStyle(color=SOFT, marker="x", dash=":")
_BY_RATIO = {
    2.0: LineStyle(color=_BLUE, marker="o", dash="-"),
    3.0: LineStyle(color=_VERMILLION, marker="s", dash="--"),
    4.0: LineStyle(color=_GREEN, marker="^", dash="-."),
    1.5: LineStyle(color=_PURPLE, marker="D", dash="-"),
    2.25: LineStyle(color=_ORANGE, marker="v", dash="--"),
    1.4142: LineStyle(color=_SKY, marker="P", dash="-."),
    16.0: LineStyle(color=_BLACK, marker="*", dash="-"),
}
_OTHER = LineStyle(color=_BLACK, marker="h", dash="--")


def ratio_style(ratio: float | None) -> LineStyle:
    """Return the style that a ratio has in every figure; None is a single scale."""
    if ratio is None:
        return _SINGLE
    return _BY_RATIO.get(round(ratio, 4), _OTHER)


def ratio_label(ratio: float | None) -> str:
    """Return how figures call a ratio."""
    return "single scale" if ratio is None else f"ratio {ratio:.4g}"


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, *, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of this size in inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    return figure, list(axes.flat)


def panel_grid(
    count: int, columns: int, width: float, height: float, *, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many panels, row by row; `height` is a row's, in inches."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure, panels = new_figure(width, height * rows, rows, columns, share_y=share_y)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


@matplotlib.rc_context(SETTINGS)
def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as `svg`, `png` or `pdf`; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    if figure.get_layout_engine() is not None:
        # Once is enough for all formats. "none" would leave an engine that does nothing, for which
        # every file is drawn twice.
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
    figure.savefig(buffer, format=kind, dpi=_PIXELS_AN_INCH, metadata=_UNDATED[kind])
    return buffer.getvalue()


def inline_svg(svg: str, name: str, description: str) -> str:
    """Return an SVG file's element for use in a page: themed, labeled, with its own ids.

    `name` is put before every id, so that figures on one page don't share any; `description` is
    what a screen reader says.
    """
    element = svg[svg.index("<svg ") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r' (?:width|height)="[\d.]+pt"', "", element, count=2)
    # The page chooses the typeface; Matplotlib's own would be looked for on the reader's machine.
    element = re.sub(r"(font: [\d.]+px) [^;\"]+", r"\1 var(--font)", element)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', element))
    element = re.sub(
        r' id="([^"]+)"',
        lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "",
        element,
    )
    element = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", element)
    for color, variable in VARIABLES.items():
        element = element.replace(color, f"var({variable})")
    return element.replace("<svg ", f'<svg role="img" aria-label="{_escape(description)}" ', 1)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
