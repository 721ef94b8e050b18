"""Overhead of tasks: starting, compiling, capturing steps, scores, steps that Python bounds.

Ranges stand for what is not known better; each says where it is from. No torch.
"""

from pcb.config import Metrics
from pcb.preflight.rates import Range

START = Range(low=4, high=20)
"""Seconds from a command to its first batch: 4 were measured with an H200 and a local disk; twenty
are a guess for a disk that a cluster shares."""
COMPILE = Range(low=15, high=26)
"""Seconds of compiling the layers and the loss, without a cache: S and L, bfloat16, H200."""
CAPTURE = Range(low=0.017, high=0.035)
"""Seconds of capturing a step: those of S, of 17 and of 139 steps, and of L, H200."""
PRECISION_RECALL = Range(low=0.6, high=3.0)
FRECHET = Range(low=0.06, high=2.9)
KID_SUBSET = Range(low=0.005, high=0.46)
"""Seconds of precision and recall, of a Frechet distance and of a subset of KID, 2,048 features:
eigenvalues and products on an H200, and all on one thread of a CPU."""
HOST_STEP = Range(low=0.047, high=0.08)
"""Seconds that Python takes for a training step however few images a GPU has: 0.0475 were measured
for 8 images of S beside an H200; the most is that times L's layers over S's."""


def scoring(metrics: Metrics) -> Range:
    """Return the seconds of the scores of a sample set whose features are there."""
    if metrics.extractor != "inception":
        return Range()
    # FID, sFID, and the FID of resampled images.
    distances = FRECHET * (2 + metrics.bootstrap)
    return PRECISION_RECALL + distances + KID_SUBSET * metrics.kid_subsets
