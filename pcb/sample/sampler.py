"""Drawing a batch of images block by block (paper, section 3 and method section 6).

Letters: B images, T tokens of the whole sequence.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pcb.config import Speed
from pcb.model.sequence import sequence_of
from pcb.model.transformer import Transformer
from pcb.order.schedule import Schedule
from pcb.sample.drawing import Drawing, StepLogits
from pcb.sample.graphs import StepGraphs
from pcb.sample.guidance import Guidance
from pcb.sample.prepared import Prepared


class Sampler:
    """Draws codes of images with one model under one schedule and guidance.

    What depends on the model and the schedule alone is computed when the sampler is made: later
    changes of the weights are not seen.
    """

    def __init__(
        self,
        model: Transformer,
        schedule: Schedule,
        *,
        guidance: Guidance | None = None,
        temperature: float = 1.0,
        speed: Speed | None = None,
    ) -> None:
        """`schedule` must have the model's scales."""
        assert schedule.sizes == model.sizes, f"{schedule.sizes} for a model of {model.sizes}"
        self.model = model
        self.guidance = guidance or Guidance()
        self.temperature = temperature
        self.steps = schedule.steps
        device, speed = model.codebook_VC.device, speed or Speed()
        with torch.inference_mode():
            self._prepared = Prepared(model, sequence_of(schedule).to(device), speed)
        self._with_graphs = speed.graphs and device.type == "cuda"
        self._drawing: Drawing | None = None
        self._graphs: StepGraphs[StepLogits] | None = None

    @torch.inference_mode()
    def draw(
        self,
        labels_B: Tensor,
        uniforms_BT: Tensor,
        observe: Callable[[StepLogits], None] | None = None,
    ) -> Tensor:
        """Return (B, T) int64 codes, scale by scale and row-major, of images of these classes.

        `uniforms_BT` holds one number in [0, 1) a token, in the same order as the codes
        (`pcb.sample.draw.uniforms`). `observe` is called after every step; what it sees may be
        overwritten by the next.
        """
        batch = len(labels_B)
        drawing = self.begin(labels_B, uniforms_BT)
        for step in range(self.steps):
            seen = self.step(drawing, step)
            if observe is not None:
                observe(
                    StepLogits(
                        step=step,
                        logits_BnV=seen.logits_BnV[:batch],
                        codes_Bn=seen.codes_Bn[:batch],
                    )
                )
        return drawing.row_major()[:batch]

    @torch.inference_mode()
    def begin(self, labels_B: Tensor, uniforms_BT: Tensor) -> Drawing:
        """Return a batch of which nothing is drawn yet. It ends the sampler's batch before it."""
        batch = len(labels_B)
        if self._drawing is None or not self._fits(batch, self._drawing):
            self._drawing = None  # Its memory is free before the next one's is taken.
            self._drawing = Drawing(self._prepared, self.guidance, self.temperature, batch)
            self._graphs = StepGraphs(self._drawing.device) if self._with_graphs else None
        self._drawing.begin(labels_B, uniforms_BT)
        return self._drawing

    @torch.inference_mode()
    def step(self, drawing: Drawing, step: int) -> StepLogits:
        """Take one step of the batch that was begun last."""
        return self._graphs.run(step, drawing.step) if self._graphs else drawing.step(step)

    def _fits(self, batch: int, drawing: Drawing) -> bool:
        """Whether a batch can use the storage of the last one, as it stands.

        With graphs a smaller one can too: the last batch of a shard needs none of its own.
        """
        return batch == drawing.images or (self._with_graphs and batch < drawing.images)
