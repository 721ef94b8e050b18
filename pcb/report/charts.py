"""Charts of FID over ratio and steps, of FID against guidance, and of codebook usage."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from pcb.report.curves import SCORE_NAMES
from pcb.report.rows import Row
from pcb.report.style import PALETTE, SETTINGS, new_figure, ratio_label, ratio_style

_SHADES = LinearSegmentedColormap.from_list("fid", ["#eef4f8", "#3f7cac", "#14304f"])
"""Dark is bad. Rises evenly in lightness, so that it prints in gray; cells carry their numbers."""
FEW = 12
"""Most columns of a map whose cells are wide."""
_WHITE, _DARK = "#fefefe", "#0b1a2b"


@matplotlib.rc_context(SETTINGS)
def fid_map(rows: Sequence[Row]) -> Figure:
    """Plot FID without guidance as shades, a line per model, a column per step count."""
    plain = [row for row in rows if row.was_run and not row.guided]
    models = list(dict.fromkeys(row.model for row in plain))
    steps = sorted({row.steps for row in plain})
    grid = np.full((len(models), len(steps)), np.nan)
    for row in plain:
        grid[models.index(row.model), steps.index(row.steps)] = row.scores["fid"]
    many = len(steps) > FEW
    cell, size = (0.36, 6.5) if many else (0.62, 8)
    figure, (panel,) = new_figure(1.9 + cell * len(steps), 0.9 + 0.42 * len(models))
    panel.grid(False)
    x, y = np.arange(len(steps) + 1), np.arange(len(models) + 1)
    shown = panel.pcolormesh(x, y, np.ma.masked_invalid(grid), cmap=_SHADES)
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (line, column), fid in np.ndenumerate(grid):
        if not np.isnan(fid):
            ink = _WHITE if fid > middle else _DARK
            place = (column + 0.5, line + 0.5)
            panel.text(*place, f"{fid:.3g}", color=ink, ha="center", va="center", fontsize=size)
    ratios = {row.model: ratio_label(row.ratio) for row in plain}
    unique = len(set(ratios.values())) == len(models)
    panel.set_xticks(x[:-1] + 0.5, [str(n) for n in steps])
    panel.set_yticks(y[:-1] + 0.5, [ratios[model] if unique else model for model in models])
    panel.invert_yaxis()
    panel.set_xlabel("total steps")
    panel.set_title(SCORE_NAMES["fid"])
    figure.colorbar(shown, ax=panel, fraction=0.05, pad=0.02)
    return figure


@matplotlib.rc_context(SETTINGS)
def guidance_figure(rows: Sequence[Row], steps: int) -> Figure:
    """Plot FID and IS against the guidance weight, at one step count, a line per model."""
    figure, panels = new_figure(6.6, 3.2, 1, 2)
    for panel, score in zip(panels, ("fid", "is"), strict=True):
        for (_, start), own in guided_lines(rows, steps).items():
            style = ratio_style(own[0].ratio)
            panel.plot(
                [row.cfg for row in own],
                [row.scores[score] for row in own],
                color=style.color,
                marker=style.marker,
                linestyle=style.dash,
                label=f"{ratio_label(own[0].ratio)}, from step {start}",
            )
        panel.set_title(SCORE_NAMES[score])
        panel.set_xlabel("guidance weight g (other papers: g + 1)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def guided_lines(rows: Sequence[Row], steps: int) -> dict[tuple[str, int], list[Row]]:
    """Return the measured rows at a step count by (model, start step), by rising weight.

    A model's row without guidance begins each of its lines.
    """
    own = [row for row in rows if row.was_run and row.steps == steps]
    found: dict[tuple[str, int], list[Row]] = {}
    for row in own:
        if row.guided:
            found.setdefault((row.model, row.cfg_start_step), []).append(row)
    for (model, _), line in found.items():
        line += [row for row in own if row.model == model and not row.guided][:1]
        line.sort(key=lambda row: row.cfg)
    return found


@matplotlib.rc_context(SETTINGS)
def usage_figure(usage: Mapping[str, float], perplexity: Mapping[str, float]) -> Figure:
    """Plot which fraction of the codebook each scale uses, and the perplexity of its codes."""
    figure, panels = new_figure(7.6, 2.4, 1, 2)
    titles = ("Fraction of the codebook in use", "Perplexity of the codes")
    for panel, title, values in zip(panels, titles, (usage, perplexity), strict=True):
        sizes = sorted(values, key=int)
        panel.bar([f"{n}×{n}" for n in sizes], [values[n] for n in sizes], color=PALETTE[0])
        panel.set_title(title)
        panel.grid(axis="x", visible=False)
    panels[0].set_ylim(0, 1)
    return figure
