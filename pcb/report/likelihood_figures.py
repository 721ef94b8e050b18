"""Figures of the likelihood: the price of sampling in parallel, by steps and by scale."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter, StrMethodFormatter

from pcb.config.seeds import model_and_seed
from pcb.order.names import CHECKERBOARD
from pcb.order.schedule import Schedule
from pcb.report.likelihood import Nats, worth
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
"""Steps or blocks, price, length of the bar."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a model pays under each of its schedules, by rising steps, in each of its trainings.

    A step count has one schedule, the first that the sweep lists.
    """

    ratio: float | None
    trainings: dict[Schedule, list[Nats]]

    @property
    def parallel(self) -> dict[Schedule, list[Nats]]:
        """Those that sample several tokens at a time."""
        return {one: nats for one, nats in self.trainings.items() if one.steps < one.tokens}


def plot_likelihood(rows: Sequence[Row]) -> Iterator[Plot]:
    """Yield the figures for which there are results; `rows` are those of `Evidence.schedules`."""
    lines = _lines(rows)
    if not lines:
        return
    said = _worth_and_bars([nats for line in lines for nats in line.trainings.values()])
    yield Plot(
        name="price",
        section="overview",
        title="Price of sampling in parallel against total steps",
        caption="How much less likely held-out images are than if every token were sampled alone, "
        "in nats per image; a line per ratio, the first point one block per scale. Below zero, "
        f"they are likelier sampled in parallel than token by token. {said}",
        figure=price_figure(lines),
    )
    yield Plot(
        name="price-scales",
        section="likelihood",
        title="The same, scale by scale",
        caption="What a scale pays depends on its own blocks alone, since all before it is known; "
        f"the last point is one token per block. {said}",
        figure=scale_price_figure(lines),
    )


@matplotlib.rc_context(SETTINGS)
def price_figure(lines: Sequence[Line]) -> Figure:
    """Plot the price of each schedule against its steps, a line per ratio."""
    figure, (panel,) = new_figure(5.6, 3.8)
    for line in lines:
        points = [
            (schedule.steps, *_with_bar([(one.price, one.price_se) for one in nats]))
            for schedule, nats in line.parallel.items()
        ]
        _plot(panel, points, ratio_style(line.ratio), ratio_label(line.ratio))
    panel.set_title("Price, nats per image (lower is better)")
    panel.set_xlabel("total steps")
    _price_axis(panel)
    _steps_axis(panel, [schedule.steps for line in lines for schedule in line.parallel])
    panel.legend(loc="upper right")
    return figure


@matplotlib.rc_context(SETTINGS)
def scale_price_figure(lines: Sequence[Line]) -> Figure:
    """Plot each scale's price against its own blocks, a panel per scale, a line per ratio."""
    sizes = sorted({n for line in lines for n in next(iter(line.trainings)).sizes if n > 1})
    figure, panels = panel_grid(len(sizes), 2, 7.0, 2.7)
    for panel, size in zip(panels, sizes, strict=True):
        for line in lines:
            points = _scale_points(line, size)
            if points:
                _plot(panel, points, ratio_style(line.ratio), ratio_label(line.ratio))
        panel.set_title(f"Scale {size}×{size}: price, nats per image")
        panel.set_xlabel("blocks of this scale")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        _price_axis(panel)
        panel.legend(loc="upper right")
    return figure


def _lines(rows: Sequence[Row]) -> list[Line]:
    """Return the lines of the first model of each ratio that has enough points.

    Models of the paper's order alone, where there are some; orders have figures of their own.
    """
    models: dict[str, list[Row]] = {}
    for row in [row for row in rows if row.order == CHECKERBOARD] or rows:
        if row.nats is not None:
            models.setdefault(model_and_seed(row.model)[0], []).append(row)
    lines: dict[float | None, Line] = {}
    for own in models.values():
        line = Line(ratio=own[0].ratio, trainings=_by_schedule(own))
        if len(line.parallel) >= FEWEST:
            lines.setdefault(line.ratio, line)
    return list(lines.values())


def _by_schedule(rows: Sequence[Row]) -> dict[Schedule, list[Nats]]:
    """Return the nats of all trainings, by the first schedule of each step count."""
    first: dict[int, Schedule] = {}
    for row in rows:
        first.setdefault(row.steps, row.schedule)
    return {
        schedule: [row.nats for row in rows if row.schedule == schedule and row.nats is not None]
        for _, schedule in sorted(first.items())
    }


def _scale_points(line: Line, size: int) -> list[Point]:
    """Return a scale's price by its number of blocks, each number once."""
    found: dict[int, Point] = {}
    for schedule, nats in line.trainings.items():
        if size in schedule.sizes:
            k = schedule.sizes.index(size)
            prices = [(one.scale_prices[k], one.scale_errors[k]) for one in nats]
            blocks = schedule.blocks_per_scale[k]
            found.setdefault(blocks, (blocks, *_with_bar(prices)))
    return [found[blocks] for blocks in sorted(found)]


def _with_bar(trainings: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return a training's price and standard error; of several mean and standard deviation."""
    if len(trainings) == 1:
        return trainings[0]
    prices = [price for price, _ in trainings]
    return float(np.mean(prices)), float(np.std(prices, ddof=1))


def _plot(panel: Axes, points: Sequence[Point], style: LineStyle, label: str) -> None:
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


def _worth_and_bars(measured: Sequence[Sequence[Nats]]) -> str:
    """Say what a nat is worth, and what the bars are; `measured` has all trainings of schedules."""
    every = [nats for trainings in measured for nats in trainings]
    trainings = max(map(len, measured))
    bars = (
        f"Points are means over {trainings} trainings, bars their standard deviation."
        if trainings > 1
        else f"Bars are one standard error over {every[0].images:,} paired images; what another "
        "seed of training would give is not in them."
    )
    return f"{worth(every)} {bars}"
