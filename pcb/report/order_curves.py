"""The study of orders as a figure: NLL against steps, and what each order adds."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from pcb.order.names import CHECKERBOARD, ORDER_NAMES
from pcb.report.order_study import Comparison
from pcb.report.style import PALETTE, SETTINGS, SOFT, new_figure, ratio_label

_MARKERS = "osD^vPX"
_DASHES = ("-", "--", "-.", ":", "--", "-.", ":")


@matplotlib.rc_context(SETTINGS)
def orders_figure(comparisons: Sequence[Comparison]) -> Figure:
    """Plot a column for each ratio: above, NLL against steps; below, differences with errors.

    Bars above reach from the best training to the worst; those below are one standard error, of
    images and trainings together.
    """
    families: dict[float | None, list[Comparison]] = {}
    for comparison in comparisons:
        families.setdefault(comparison.ratio, []).append(comparison)
    figure, panels = new_figure(4.0 * len(families), 5.6, 2, len(families))
    for column, (ratio, own) in enumerate(families.items()):
        above, below = panels[column], panels[len(families) + column]
        _levels(above, own)
        _differences(below, own)
        above.set_title(f"{ratio_label(ratio)}: NLL, nats per image")
        below.set_title("difference to the checkerboard, nats per image")
        for panel in (above, below):
            steps = [comparison.schedule.steps for comparison in own]
            panel.set_xscale("log")
            panel.set_xticks(steps)
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.xaxis.set_minor_locator(NullLocator())
        below.set_xlabel("total steps")
    handles: dict[str, Artist] = {}
    for panel in panels:
        lines, labels = panel.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=4)
    return figure


def _levels(panel: Axes, own: Sequence[Comparison]) -> None:
    for order in _orders(own):
        found = [(c.schedule.steps, c.nll[order]) for c in own if order in c.nll]
        means = np.array([nll.mean() for _, nll in found])
        low = means - [nll.min() for _, nll in found]
        high = [nll.max() for _, nll in found] - means
        _line(panel, order, [steps for steps, _ in found], means, np.stack([low, high]))


def _differences(panel: Axes, own: Sequence[Comparison]) -> None:
    panel.axhline(0, color=SOFT, linewidth=0.8)
    for order in _orders(own):
        found = [(c.schedule.steps, d) for c in own for d in c.differences if d.order == order]
        errors = np.array([d.over_images if d.error is None else d.error for _, d in found])
        means = np.array([d.mean for _, d in found])
        _line(panel, order, [steps for steps, _ in found], means, errors)


def _line(
    panel: Axes,
    order: str,
    x: Sequence[int],
    y: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> None:
    if not x:
        return
    number = ORDER_NAMES.index(order)
    panel.errorbar(
        x,
        y,
        yerr=errors,
        label=order,
        color=PALETTE[number],
        marker=_MARKERS[number],
        linestyle=_DASHES[number],
        linewidth=1.3,
        markersize=4,
        capsize=2,
        elinewidth=0.8,
    )


def _orders(own: Sequence[Comparison]) -> list[str]:
    """Return the orders of a family, the checkerboard first."""
    named = {order for comparison in own for order in comparison.nll}
    return [CHECKERBOARD, *(name for name in ORDER_NAMES if name in named - {CHECKERBOARD})]
