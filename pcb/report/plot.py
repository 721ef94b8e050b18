"""A figure with what is said below it."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure, where it stands and what it says."""

    name: str
    section: str
    title: str
    caption: str
    figure: Figure
    wide: bool = False
