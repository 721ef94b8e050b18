"""The rows of a batch: images with their class, with guidance the same without, and filler.

Letters: B images, R rows.
"""

import torch
from torch import Tensor

from pcb.runtime.device import send

MIN_CPU_ROWS = 16
"""A CPU matrix product of fewer rows than this may take another path, with another order of sums:
it is filled up, so that an image never depends on its batch. (MKL's own limit is four rows.)"""


class Rows:
    """Rows 0..B have the images' classes, rows B..2B, with guidance, the null class.

    On a CPU there are rows beyond, which nobody reads, for filling up small calls.
    """

    def __init__(self, images: int, *, guided: bool, null_class: int, device: torch.device) -> None:
        """`null_class`: the row of the class table that stands for no class."""
        self.images = images
        self.with_class = slice(0, images)
        self.without = slice(images, 2 * images if guided else images)
        self.all = slice(0, self.without.stop)
        self._least = MIN_CPU_ROWS if device.type == "cpu" else 1
        last = self.without if guided else self.with_class
        self.most = self.padded(last, 1).stop
        """As many as any call can have, so that a cache must have."""
        self.image_R = torch.arange(self.most, device=device) % max(images, 1)
        """The image of each row."""
        self.labels_R = torch.full((self.most,), null_class, device=device)

    def begin(self, labels_B: Tensor) -> None:
        """Take in the classes of a batch."""
        self.labels_R[self.with_class] = send(labels_B, self.labels_R.device)

    def padded(self, rows: slice, tokens: int) -> slice:
        """Return some rows, and as many after them as a call with so many tokens per row needs."""
        return slice(rows.start, max(rows.stop, rows.start - (-self._least // tokens)))
