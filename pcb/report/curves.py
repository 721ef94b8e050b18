"""The figures with axes: scores against steps and time, training, and sampling step by step."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from pcb.report.rows import Row, lines
from pcb.report.style import (
    INK,
    PALETTE,
    PAPER,
    SETTINGS,
    SOFT,
    LineStyle,
    new_figure,
    panel_grid,
    ratio_label,
    ratio_style,
)

Columns = Mapping[str, NDArray[np.float64]]
"""A table as it is read from a CSV file: column name -> values."""

SCORE_NAMES = {
    "fid": "FID (lower is better)",
    "is": "Inception score (higher is better)",
    "precision": "Precision",
    "recall": "Recall",
    "kid": "KID (lower is better)",
}
_LINEAR_STEPS = 64
"""Most steps that an axis counts evenly."""
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


@matplotlib.rc_context(SETTINGS)
def score_figure(
    rows: Sequence[Row],
    scores: Sequence[str],
    compare_steps: int,
    published: Sequence[tuple[float, int, Mapping[str, float]]] = (),
) -> Figure:
    """Plot scores against total steps: a line per model, hollow markers for guided rows.

    Error bars are the row's `<score>_std`, where it has one. `published` are ratio, steps and
    scores of published rows: crosses in their ratio's color.
    """
    width, height = (5.6, 3.8) if len(scores) == 1 else (6.6, 2.7)
    figure, panels = panel_grid(len(scores), 2, width, height)
    for panel, score in zip(panels, scores, strict=True):
        for row_style, own in _styled(rows):
            _score_line(panel, own, score, row_style)
        for row in rows:
            if row.guided and score in row.scores:
                _hollow(panel, row.steps, row.scores[score], ratio_style(row.ratio))
        for ratio, steps, own_scores in published:
            if score in own_scores:
                color = ratio_style(ratio).color
                panel.plot([steps], [own_scores[score]], "x", color=color, markersize=8, zorder=4)
        panel.axvline(compare_steps, color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        panel.set_title(SCORE_NAMES.get(score, score))
        _steps_axis(panel, max(row.steps for row in rows if row.was_run))
        panel.margins(y=0.08)
        if score in ("fid", "kid"):
            panel.set_ylim(bottom=0)
    _legend(figure, rows)
    return figure


@matplotlib.rc_context(SETTINGS)
def time_figure(rows: Sequence[Row]) -> Figure:
    """Plot FID against measured sampling time, a line per model."""
    figure, (panel,) = new_figure(6.2, 3.5)
    timed = [row for row in rows if row.seconds_per_image is not None]
    for style, own in _styled(timed):
        x = [1000 * (row.seconds_per_image or 0) for row in own]
        _line(panel, x, [row.scores["fid"] for row in own], style)
    for row in timed:
        if row.guided and row.was_run:
            milliseconds = 1000 * (row.seconds_per_image or 0)
            _hollow(panel, milliseconds, row.scores["fid"], ratio_style(row.ratio))
    panel.set_title(SCORE_NAMES["fid"])
    panel.set_xlabel("milliseconds per image, as sampled")
    panel.set_ylim(bottom=0)
    panel.set_xlim(left=0)
    _legend(figure, timed)
    return figure


@matplotlib.rc_context(SETTINGS)
def training_figure(
    logs: Mapping[str, Columns], ratios: Mapping[str, float | None], start: float
) -> Figure:
    """Plot each model's training loss; the dotted line is `start`, the loss of a uniform guess."""
    figure, (panel,) = new_figure(6.2, 3.4)
    for model, log in logs.items():
        style = ratio_style(ratios[model])
        panel.plot(
            log["iteration"],
            log["loss"],
            color=style.color,
            linestyle=style.dash,
            linewidth=1.2,
            label=_name(model, ratios[model]),
        )
    panel.axhline(start, color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)))
    panel.set_title("Training loss, mean cross-entropy per token (nats)")
    panel.set_xlabel("iteration")
    panel.legend(loc="upper right")
    return figure


@matplotlib.rc_context(SETTINGS)
def scale_loss_figure(logs: Mapping[str, Columns], sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Plot the training loss of every scale, one panel per model."""
    figure, panels = panel_grid(len(logs), 4, 7.6, 3.6 if len(logs) <= 4 else 2.4, share_y=True)
    for panel, (model, log) in zip(panels, logs.items(), strict=True):
        for k, size in enumerate(sizes[model]):
            panel.plot(
                log["iteration"],
                log[f"loss_{size}"],
                color=PALETTE[k % len(PALETTE)],
                linestyle=_DASHES[k % len(_DASHES)],
                linewidth=1.1,
                label=f"{size}×{size}",
            )
        panel.set_title(model)
        panel.set_xlabel("iteration")
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.legend(loc="upper right", ncols=2, fontsize=7.5)
    return figure


@matplotlib.rc_context(SETTINGS)
def chosen_codes_figure(rows: Sequence[Row], stats: Mapping[str, Columns]) -> Figure:
    """Plot entropy of the prediction and probability of the chosen code, step by step.

    `stats` maps a row's variant to its columns; a larger marker begins a scale.
    """
    figure, panels = new_figure(7.6, 3.0, 1, 2)
    titles = {"entropy": "Entropy (nats)", "probability": "Probability of the chosen code"}
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        for row in rows:
            table, style = stats[row.variant], ratio_style(row.ratio)
            scale = table["scale"]
            begins = np.flatnonzero(np.append(True, scale[1:] != scale[:-1]))
            _line(panel, table["step"], table[column], style, size=3)
            panel.plot(
                table["step"][begins],
                table[column][begins],
                linestyle="none",
                marker=style.marker,
                color=style.color,
                markersize=7,
            )
        panel.set_title(title)
        panel.set_xlabel("step")
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.set_ylim(bottom=0)
    _legend(figure, rows)
    return figure


@matplotlib.rc_context(SETTINGS)
def tokenizer_figure(log: Columns) -> Figure:
    """Plot the tokenizer's error and its codebook's perplexity while it is trained.

    The error is that of reconstruction, or the distance to the codes where they alone are trained.
    """
    figure, panels = new_figure(7.6, 2.6, 1, 2)
    errors = {"reconstruction": "Reconstruction error", "loss": "Squared distance to the code"}
    error = next(column for column in errors if column in log)
    titles = {error: errors[error], "perplexity": "Codebook perplexity"}
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        panel.plot(log["iteration"], log[column], color=PALETTE[0], linewidth=1.1)
        panel.set_title(title)
        panel.set_xlabel("iteration")
        panel.set_ylim(bottom=0)
    return figure


def _steps_axis(panel: Axes, most: int) -> None:
    """Let the x axis count steps: in octaves where a few of many steps would fill all of it."""
    panel.set_xlabel("total steps")
    if most > _LINEAR_STEPS:
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        return
    panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    panel.set_xlim(left=0)


def _styled(rows: Sequence[Row]) -> list[tuple[LineStyle, list[Row]]]:
    """Return each line's style and measured, unguided rows."""
    return [(ratio_style(own[0].ratio), own) for own in lines(rows).values()]


def _score_line(panel: Axes, rows: Sequence[Row], score: str, style: LineStyle) -> None:
    """Plot one model's line, with error bars where they are known."""
    own = [row for row in rows if score in row.scores]
    x = [row.steps for row in own]
    y = [row.scores[score] for row in own]
    _line(panel, x, y, style)
    errors = [row.scores.get(f"{score}_std", 0.0) for row in own]
    if any(errors):
        panel.errorbar(
            x, y, errors, color=style.color, linestyle="none", linewidth=0.9, capsize=2.5
        )


def _line(
    panel: Axes,
    x: Sequence[float] | NDArray[np.float64],
    y: Sequence[float] | NDArray[np.float64],
    style: LineStyle,
    size: float = 5,
) -> None:
    panel.plot(x, y, color=style.color, marker=style.marker, linestyle=style.dash, markersize=size)


def _hollow(panel: Axes, x: float, y: float, style: LineStyle) -> None:
    """Plot the marker of a guided row."""
    panel.plot(
        [x],
        [y],
        linestyle="none",
        marker=style.marker,
        color=style.color,
        markerfacecolor=PAPER,
        markersize=7,
        zorder=3,
    )


def _legend(figure: Figure, rows: Sequence[Row]) -> None:
    """Put one legend above the panels: the lines, and what a hollow marker means."""
    handles = []
    for model, own in lines(rows).items():
        style = ratio_style(own[0].ratio)
        handles.append(
            Line2D(
                [],
                [],
                color=style.color,
                marker=style.marker,
                linestyle=style.dash,
                label=_name(model, own[0].ratio),
            )
        )
    weights = sorted({row.cfg for row in rows if row.guided and row.was_run})
    if weights:
        some = [f"{cfg:g}" for cfg in weights]
        label = "guided, cfg " + (", ".join(some) if len(some) < 4 else f"{some[0]} to {some[-1]}")
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                marker="o",
                markerfacecolor=PAPER,
                linestyle="none",
                markersize=7,
                label=label,
            )
        )
    figure.legend(handles=handles, loc="outside upper left", ncols=4)


def _name(model: str, ratio: float | None) -> str:
    """Return a line's name: the ratio, the model where it names its ratio, else both."""
    name = ratio_label(ratio)
    if model == name.replace(" ", ""):
        return name
    digits = "single" if ratio is None else f"{ratio:.3g}"
    return model if digits in model else f"{model} ({name})"
