"""Names of the orders, for settings: those that a grid of any side has. Pure Python."""

CHECKERBOARD = "checkerboard"
"""The paper's own, and what a model has unless its settings say otherwise."""
ORDER_NAMES = (
    CHECKERBOARD,
    "raster",
    "random",
    "halton",
    "regions",
    "diagonals",
    "locality",
)
