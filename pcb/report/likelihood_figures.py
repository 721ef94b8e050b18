"""Figures of the likelihood: the price of drawing in parallel, by steps and by scale."""

import math
from collections.abc import Iterator, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter, StrMethodFormatter

from pcb.report.nats import Nats
from pcb.report.plot import Plot
from pcb.report.rows import Row
from pcb.report.style import (
    SETTINGS,
    SOFT,
    LineStyle,
    new_figure,
    panel_grid,
    ratio_label,
    ratio_style,
)

FEWEST = 3
"""Schedules that make a line."""
LINEAR = 1.0
"""Nats up to which the axis of prices is linear; beyond, it is logarithmic."""
_TICKS = (-30, -10, -3, -1, -0.5, 0, 0.5, 1, 3, 10, 30, 100, 300, 1000)

Point = tuple[float, float, float]
"""Steps or blocks, price, standard error."""


def plot_likelihood(rows: Sequence[Row]) -> Iterator[Plot]:
    """Yield the figures for which there are results; `rows` are those of `Evidence.schedules`."""
    lines = _lines(rows)
    if not lines:
        return
    worth = _worth([row.nats for own in lines.values() for row in own if row.nats is not None])
    yield Plot(
        name="price",
        section="overview",
        title="Price of drawing in parallel against total steps",
        caption="How much less likely held-out images are than if every token were drawn alone, in "
        "nats per image; a line per ratio, the first point one block per scale. Below zero, they "
        f"are likelier drawn in parallel than token by token. {worth}",
        figure=price_figure(lines),
    )
    yield Plot(
        name="price-scales",
        section="likelihood",
        title="The same, scale by scale",
        caption="What a scale pays depends on its own blocks alone, since all before it is known; "
        f"the last point is one token per block. {worth}",
        figure=scale_price_figure(lines),
    )


@matplotlib.rc_context(SETTINGS)
def price_figure(lines: dict[str, list[Row]]) -> Figure:
    """Draw the price of each schedule against its steps, a line per model."""
    figure, (panel,) = new_figure(5.6, 3.8)
    for own in lines.values():
        points = [
            (row.steps, row.nats.price, row.nats.price_se)
            for row in own
            if row.nats is not None and row.steps < row.nats.tokens
        ]
        _line(panel, points, ratio_style(own[0].ratio), ratio_label(own[0].ratio))
    panel.set_title("Price, nats per image (lower is better)")
    panel.set_xlabel("total steps")
    _price_axis(panel)
    _steps_axis(panel, [row.steps for own in lines.values() for row in own if not _serial(row)])
    panel.legend(loc="upper right")
    return figure


@matplotlib.rc_context(SETTINGS)
def scale_price_figure(lines: dict[str, list[Row]]) -> Figure:
    """Draw each scale's price against its own blocks, a panel per scale, a line per model."""
    sizes = sorted({n for own in lines.values() for n in own[0].schedule.sizes if n > 1})
    figure, panels = panel_grid(len(sizes), 2, 7.0, 2.7)
    for panel, size in zip(panels, sizes, strict=True):
        for own in lines.values():
            points = _scale_points(own, size)
            if points:
                _line(panel, points, ratio_style(own[0].ratio), ratio_label(own[0].ratio))
        panel.set_title(f"Scale {size}×{size}: price, nats per image")
        panel.set_xlabel("blocks of this scale")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        _price_axis(panel)
        panel.legend(loc="upper right")
    return figure


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return measured rows by rising step count, of the first model of each ratio with enough."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.nats is not None:
            found.setdefault(row.model, []).append(row)
    lines: dict[str, list[Row]] = {}
    for model, own in found.items():
        plotted = {line[0].ratio for line in lines.values()}
        if own[0].ratio not in plotted and sum(not _serial(row) for row in own) >= FEWEST:
            lines[model] = sorted(own, key=lambda row: row.steps)
    return lines


def _scale_points(rows: Sequence[Row], size: int) -> list[Point]:
    """Return a scale's price by its number of blocks, each number once."""
    found: dict[int, Point] = {}
    for row in rows:
        if size in row.schedule.sizes and row.nats is not None:
            k = row.schedule.sizes.index(size)
            blocks = row.schedule.blocks_per_scale[k]
            point = (blocks, row.nats.scale_prices[k], row.nats.scale_errors[k])
            found.setdefault(blocks, point)
    return [found[blocks] for blocks in sorted(found)]


def _line(panel: Axes, points: Sequence[Point], style: LineStyle, label: str) -> None:
    x, y, error = zip(*points, strict=True)
    panel.errorbar(
        x,
        y,
        error,
        color=style.color,
        marker=style.marker,
        linestyle=style.dash,
        label=label,
        elinewidth=0.9,
        capsize=2.5,
    )


def _price_axis(panel: Axes) -> None:
    """Let the y axis show prices of a tenth and of tens of nats; zero is one token per block."""
    panel.set_yscale("symlog", linthresh=LINEAR, linscale=1.0)
    low, high = panel.get_ylim()
    panel.set_yticks([tick for tick in _TICKS if low <= tick <= high])
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.axhline(0, color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)


def _steps_axis(panel: Axes, steps: Sequence[int]) -> None:
    if max(steps) > 16 * min(steps):
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.set_xlim(left=0)


def _serial(row: Row) -> bool:
    return row.steps == row.schedule.tokens


def _worth(measured: Sequence[Nats]) -> str:
    """Say what a nat is worth, and what the bars are."""
    bits = [1 / nats.tokens / math.log(2) for nats in measured]
    parts = [100 / nats.serial for nats in measured]
    totals = [nats.serial for nats in measured]
    return (
        f"A nat per image is {_range(bits, 3)} bits per token here, and {_range(parts, 1)} % of "
        f"the {_range(totals, 0)} nats of an image that is drawn token by token. Bars are one "
        f"standard error over {measured[0].images:,} paired images; what another seed of training "
        "would give is not in them."
    )


def _range(values: Sequence[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"
