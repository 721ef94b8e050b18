"""The rows of a batch: images with their class, with guidance the same without, and filler.

On a CPU some numbers of rows are summed in another order than others (`pcb.systems.exact`), and an
image would depend on its batch: calls get rows more, copies of the first, that nobody reads.

Letters: B images, R rows, n tokens of a block, V codes.
"""

import torch
from torch import Tensor

from pcb.runtime.device import send
from pcb.sample.rows import MIN_CPU_ROWS
from pcb.systems.exact import PACK, padded
from pcb.systems.guidance import mix


class Rows:
    """Rows 0..B have the images' classes, rows B..2B, with guidance, none."""

    def __init__(self, images: int, *, guided: bool, null_class: int, device: torch.device) -> None:
        """`null_class`: the row of the class table that stands for no class."""
        self.images, self.guided = images, guided
        self._real = 2 * images if guided else images
        self._least, self._pack = (MIN_CPU_ROWS, PACK) if device.type == "cpu" else (1, 1)
        self.most = self.count(1)
        """The rows of the widest call: as many a cache must have."""
        self.image_R = torch.zeros(self.most, dtype=torch.int64, device=device)
        """The image of each row."""
        self.image_R[: self._real] = torch.arange(self._real, device=device) % images
        self.labels_R = torch.full((self.most,), null_class, dtype=torch.int64, device=device)

    def begin(self, labels_B: Tensor) -> None:
        """Take in the classes of a batch."""
        labels_B = send(labels_B, self.labels_R.device)
        self.labels_R[: self.images] = labels_B
        self.labels_R[self._real :] = labels_B[0]

    def count(self, tokens: int) -> int:
        """Return the rows of a call whose smallest product has so many tokens per row."""
        return padded(max(self._real, -(-self._least // tokens)), self._pack)

    def guide(self, logits_RnV: Tensor, scales_n: Tensor) -> Tensor:
        """Return the (B, n, V) logits of the images, in float32, guided where guidance is on."""
        logits_RnV = logits_RnV[: self._real].float()
        if not self.guided:
            return logits_RnV
        return mix(logits_RnV[: self.images], logits_RnV[self.images :], scales_n)
