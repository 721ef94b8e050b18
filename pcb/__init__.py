"""Progressive checkerboards: a class-conditional image generator that samples a pyramid of tokens.

Reproduction of D. Eigen, "Progressive Checkerboards for Autoregressive Multiscale Image
Generation", arXiv 2602.03811. Inside a scale, evenly spaced tokens are sampled in parallel, in the
fixed order of `pcb.order.checkerboard`; `pcb.order.schedule` says which tokens share a step.

`pcb.load` turns a finished model into a function from classes to images (docs/library.md).
Importing `pcb` imports neither torch nor numpy; the submodules say what they need.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcb.generate.load import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `load` when it is asked for: it needs torch."""
    if name == "load":
        from pcb.generate.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "load"])
