"""Progressive checkerboards: a class-conditional image generator that draws a pyramid of tokens.

Reproduction of D. Eigen, "Progressive Checkerboards for Autoregressive Multiscale Image
Generation", arXiv 2602.03811. Inside a scale, evenly spaced tokens are drawn in parallel, in the
fixed order of `pcb.order.checkerboard`; `pcb.order.schedule` says which tokens share a step.

Importing `pcb` imports neither torch nor numpy; the submodules say what they need.
"""

__version__ = "0.1.0"
