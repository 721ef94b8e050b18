"""The figure of Table 1's systems: FID against the time of one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from pcb.report.published import measured_row, published_systems, timed_name
from pcb.report.rows import Row
from pcb.report.style import PALETTE, SETTINGS, new_figure
from pcb.report.system_rows import SystemRow
from pcb.report.times import Times


@dataclass(frozen=True, kw_only=True)
class TimedPoint:
    """A system's time, measured, and its FID, published and where it was run measured."""

    name: str
    milliseconds: float
    published: float
    measured: float | None


def timed_points(
    rows: Sequence[Row], systems: Sequence[SystemRow], times: Times
) -> list[TimedPoint]:
    """Return a point for every row of Table 1 that was timed."""
    others = {row.system: row for row in systems if row.released}
    points = []
    for system in published_systems():
        milliseconds = times.milliseconds(timed_name(system))
        if milliseconds is not None:
            row = measured_row(system, rows) or others.get(system["system"])
            points.append(
                TimedPoint(
                    name=system["system"],
                    milliseconds=milliseconds,
                    published=float(system["fid"]),
                    measured=None if row is None else row.scores.get("fid"),
                )
            )
    return points


@matplotlib.rc_context(SETTINGS)
def systems_figure(points: Sequence[TimedPoint]) -> Figure:
    """Plot published FIDs as crosses and measured ones as dots, each by its system's name."""
    figure, (panel,) = new_figure(6.2, 3.6)
    for k, point in enumerate(points):
        color = PALETTE[k % len(PALETTE)]
        panel.plot([point.milliseconds], [point.published], "x", color=color, markersize=7)
        if point.measured is not None:
            panel.plot([point.milliseconds], [point.measured], "o", color=color, markersize=6)
        at = (point.milliseconds, point.published)
        panel.annotate(point.name, at, (5, 4), textcoords="offset points", fontsize=8)
    panel.set_xscale("log")
    panel.margins(x=0.2, y=0.15)
    panel.set_title("FID (crosses: published, dots: measured)")
    panel.set_xlabel("milliseconds of one image alone, measured")
    return figure
