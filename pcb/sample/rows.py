"""The rows of a batch: images with their class, with guidance the same without, and filler.

On a CPU some numbers of rows are summed in another order than others (`pcb.model.exact`), and an
image would depend on its batch: calls get extra rows, copies of the first, that nobody reads.

Letters: B images, R rows, n tokens of a block, V codes.
"""

import torch
from torch import Tensor

from pcb.model.exact import PACK, min_rows, next_multiple
from pcb.runtime.device import send
from pcb.sample.guidance import mix


class Rows:
    """Rows 0..B have the images' classes, rows B..2B, with guidance, the null class."""

    def __init__(
        self,
        images: int,
        *,
        guided: bool,
        null_class: int,
        device: torch.device,
        halves: bool = False,
        pack: int = PACK,
    ) -> None:
        """`null_class`: the row of the class table that stands for the null class.

        `halves`: whether calls are also made of the rows with a class alone, and of those without.
        `pack`: of what number the rows of a call are a multiple on a CPU; 1 is enough where one
        thread computes.
        """
        self.images, self.guided = images, guided
        self.with_class = slice(0, images)
        self.without = slice(images, 2 * images if guided else images)
        self.all = slice(0, self.without.stop)
        self._least, self._pack = min_rows(device), pack if device.type == "cpu" else 1
        last = (self.without if guided else self.with_class) if halves else self.all
        self.most = self.padded(last, 1).stop
        """As many as any call can have, so that a cache must have."""
        self.image_R = torch.zeros(self.most, dtype=torch.int64, device=device)
        """The image of each row."""
        self.image_R[self.all] = torch.arange(self.all.stop, device=device) % max(images, 1)
        self.labels_R = torch.full((self.most,), null_class, dtype=torch.int64, device=device)

    def begin(self, labels_B: Tensor) -> None:
        """Take in the classes of a batch."""
        labels_B = send(labels_B, self.labels_R.device)
        self.labels_R[self.with_class] = labels_B
        self.labels_R[self.all.stop :] = labels_B[0]

    def padded(self, rows: slice, tokens: int) -> slice:
        """Return some rows, and as many after them as a call with so many tokens per row needs."""
        least = max(rows.stop - rows.start, -(-self._least // tokens))
        return slice(rows.start, rows.start + next_multiple(least, self._pack))

    def count(self, tokens: int) -> int:
        """Return the rows of a call of all whose smallest product has so many tokens per row."""
        return self.padded(self.all, tokens).stop

    def guide(self, logits_RnV: Tensor, scales_n: Tensor) -> Tensor:
        """Return the (B, n, V) logits of the images, in float32, guided where guidance is on."""
        logits_RnV = logits_RnV[self.all].float()
        if not self.guided:
            return logits_RnV
        return mix(logits_RnV[self.with_class], logits_RnV[self.without], scales_n)
