"""The checkerboard order as pictures: ranks as shades, blocks as colors, steps as a strip."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from pcb.order.checkerboard import progressive_checkerboard
from pcb.order.names import CHECKERBOARD
from pcb.order.orders import ranks_of
from pcb.order.schedule import Schedule, block_starts, blocks_of
from pcb.report.style import GRID, PAPER, SETTINGS, figure_bytes, new_figure
from pcb.runtime.atomic import write_atomic

_SHADES = LinearSegmentedColormap.from_list("ranks", ["#14304f", "#3f7cac", "#eef4f8"])
"""Dark is early. Rises evenly in lightness, so that it prints in gray."""
_WHITE, _DARK = "#fefefe", "#0b1a2b"
"""Numbers on cells: like the cells, the same in the light and the dark theme."""
_ORDERS_A_LINE = 4
_NEW, _EARLIER = "#0b6aa8", "#a8cbe3"
_BLOCK_TINTS = (
    "#8fc1e3",
    "#f2b48a",
    "#8fd3bd",
    "#e3b7cf",
    "#f3d58a",
    "#c3e3f7",
    "#c9ced4",
    "#f7ead0",
)


@matplotlib.rc_context(SETTINGS)
def plot_orders(n: int, path: Path, names: Sequence[str] = (CHECKERBOARD,)) -> None:
    """Write a PNG of n x n orders (`ORDERS`): every cell's rank as a number and as a shade.

    Raises UserError if it cannot be written.
    """
    side = max(2.0, 0.34 * n)
    columns = min(len(names), _ORDERS_A_LINE)
    lines = -(-len(names) // columns)
    figure, panels = new_figure(columns * side, lines * (side + 0.3), lines, columns)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, names, strict=False):
        _ranks(panel, n, f"{n}×{n} {name} order" if len(names) == 1 else name, name)
    write_atomic(path, figure_bytes(figure, "png"))


@matplotlib.rc_context(SETTINGS)
def order_figure(sizes: Sequence[int], blocks: Sequence[int]) -> Figure:
    """Plot for each size the ranks, and below them the blocks of the paper's rule for K.

    `blocks[i]` is the K of `sizes[i]`.
    """
    figure, panels = new_figure(7.6, 8.2, 2, len(sizes))
    for column, (n, count) in enumerate(zip(sizes, blocks, strict=True)):
        _ranks(panels[column], n, f"{n}×{n}: rank of each cell, dark is early")
        _blocks(panels[len(sizes) + column], n, blocks_of(n * n, count))
    return figure


@matplotlib.rc_context(SETTINGS)
def steps_figure(schedule: Schedule, order: str = CHECKERBOARD) -> Figure:
    """Plot every step of a schedule: new tokens dark, those of earlier steps of the scale pale."""
    pitch = 1.14
    figure, (panel,) = new_figure(0.62 * schedule.steps, 1.0)
    panel.set(xlim=(-0.05, pitch * schedule.steps), ylim=(1.3, -0.3), aspect="equal")
    panel.set_axis_off()
    step = 0
    for size, blocks in zip(schedule.sizes, schedule.blocks, strict=True):
        ranks = ranks_of(order, size)
        for start, block in zip(block_starts(blocks), blocks, strict=True):
            left = pitch * step
            step += 1
            panel.add_patch(Rectangle((left, 0), 1, 1, facecolor="none", edgecolor=GRID))
            _cells(panel, ranks < start, _EARLIER, left, 1 / size)
            _cells(panel, (ranks >= start) & (ranks < start + block), _NEW, left, 1 / size)
            panel.text(left + 0.5, -0.06, str(step), ha="center", va="bottom", fontsize=8)
            if start == 0:
                panel.text(left, 1.08, f"{size}×{size}", ha="left", va="top", fontsize=8)
    return figure


def _ranks(panel: Axes, n: int, title: str, name: str = CHECKERBOARD) -> None:
    """Fill cells with shades and write their ranks."""
    ranks = ranks_of(name, n)
    _bare(panel, n)
    panel.set_title(title)
    panel.pcolormesh(np.arange(n + 1), np.arange(n + 1), ranks, cmap=_SHADES, linewidth=0)
    for (row, column), rank in np.ndenumerate(ranks):
        ink = _WHITE if rank < 0.5 * n * n else _DARK
        _number(panel, row, column, str(rank), ink, n)


def _blocks(panel: Axes, n: int, blocks: Sequence[int]) -> None:
    """Fill each block's cells with a color and write the block's number, from 1."""
    ranks = progressive_checkerboard(n)
    block_of: NDArray[np.int64] = np.repeat(np.arange(len(blocks)), blocks)[ranks]
    _bare(panel, n)
    panel.set_title(f"{n}×{n}: the {len(blocks)} blocks of K = {len(blocks)}")
    for block in range(len(blocks)):
        _cells(panel, block_of == block, _BLOCK_TINTS[block % len(_BLOCK_TINTS)])
    for (row, column), own in np.ndenumerate(block_of):
        _number(panel, row, column, str(own + 1), _DARK, n)


def _bare(panel: Axes, n: int) -> None:
    """Turn a panel into an empty n x n grid, row 0 on top."""
    panel.set(xlim=(0, n), ylim=(n, 0), aspect="equal", xticks=[], yticks=[])
    panel.grid(False)
    for spine in panel.spines.values():
        spine.set(visible=True, color=GRID, linewidth=0.8)


def _cells(
    panel: Axes, mask: NDArray[np.bool_], color: str, left: float = 0.0, side: float = 1.0
) -> None:
    """Fill the cells of a mask, as one path, so that the file stays small.

    The grid's top left corner is at (left, 0), a cell is `side` wide.
    """
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    squares = [
        Outline(left_top + side * corners, closed=True)
        for left_top in (left, 0) + side * np.argwhere(mask)[:, ::-1]
    ]
    if squares:
        path = Outline.make_compound_path(*squares)
        panel.add_patch(PathPatch(path, facecolor=color, edgecolor=PAPER, linewidth=0.4))


def _number(panel: Axes, row: int, column: int, text: str, color: str, n: int) -> None:
    """Write a number into a cell, small enough for the grid."""
    size = 9 if n <= 8 else 6 if n <= 16 else 4
    label = panel.text(
        column + 0.5, row + 0.52, text, color=color, fontsize=size, ha="center", va="center"
    )
    # It stays inside its cell: measuring hundreds of them for the layout takes seconds.
    label.set_in_layout(False)
