"""Sampling a batch of images block by block, with any decoder (paper, section 3; method section 6).

Letters: B images, T tokens of the whole sequence, n tokens of a block.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pcb.model.exact import filled_up
from pcb.runtime.device import send
from pcb.sample.decoder import Block, Decoder
from pcb.sample.filter import EVERYTHING, Filter, sample_codes
from pcb.sample.graphs import StepGraphs

Measured = tuple[Tensor, ...]
"""Tensors of B rows each."""


class Sampler:
    """Samples the codes of batch after batch of images, in storage that stays where it is."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        filter: Filter = EVERYTHING,
        graphs: bool = True,
        measure: Callable[[Block], Measured] | None = None,
        least_images: int = 1,
    ) -> None:
        """`graphs`: whether a GPU records every step. `measure` sees every block as it is made.

        On a GPU `measure` is recorded with the step, and called no more after that. A batch of
        fewer than `least_images` is filled up to as many.
        """
        self.decoder = decoder
        self._filter, self._measure, self._least_images = filter, measure, least_images
        self._with_graphs = graphs and decoder.device.type == "cuda"
        self._graphs: StepGraphs[Measured] | None = None
        self._uniforms_BT = torch.empty(0, decoder.tokens, device=decoder.device)
        self.codes_BT = torch.empty_like(self._uniforms_BT, dtype=torch.int64)
        """The codes sampled so far of the batch that was begun last; the next takes their place."""

    @torch.inference_mode()
    def sample(
        self,
        labels_B: Tensor,
        uniforms_BT: Tensor,
        orders_BT: Tensor | None = None,
        observe: Callable[[int, Measured], None] | None = None,
    ) -> Tensor:
        """Return (B, T) int64 codes, scale by scale and row-major, of images of these classes.

        `uniforms_BT` holds one number in [0, 1) per token, in the same order as the codes
        (`pcb.sample.uniforms`). `observe` is called after every step with what was measured there;
        the next step may overwrite it.
        """
        self.begin(labels_B, uniforms_BT, orders_BT)
        images = len(labels_B)
        for step in range(self.decoder.steps):
            measured = self.step(step)
            if observe is not None:
                observe(step, tuple(part[:images] for part in measured))
        return self.codes_BT[:images].clone()

    @torch.inference_mode()
    def begin(self, labels_B: Tensor, uniforms_BT: Tensor, orders_BT: Tensor | None = None) -> None:
        """Take in a batch, in the place of the one before."""
        images, most = max(len(labels_B), self._least_images), len(self.codes_BT)
        # The last, smaller batch of a shard needs no graphs of its own.
        if images != most and not (self._graphs is not None and images < most):
            self._allocate(images)
        stored = len(self.codes_BT)
        self.decoder.begin(
            filled_up(labels_B, stored), None if orders_BT is None else filled_up(orders_BT, stored)
        )
        self._uniforms_BT.copy_(send(filled_up(uniforms_BT, stored), self.decoder.device))

    @torch.inference_mode()
    def step(self, step: int) -> Measured:
        """Sample the codes of one block of the batch that was begun last; return the measured."""
        return self._graphs.run(step, self._step) if self._graphs else self._step(step)

    def _step(self, step: int) -> Measured:
        cells_Bn = self.decoder.cells(step).expand(len(self.codes_BT), -1)
        logits_BnV = self.decoder.logits(step)
        uniforms_Bn = self._uniforms_BT.gather(1, cells_Bn)
        codes_Bn, probabilities_BnV = sample_codes(logits_BnV, uniforms_Bn, self._filter)
        self.codes_BT.scatter_(1, cells_Bn, codes_Bn)
        self.decoder.accept(step, codes_Bn)
        block = Block(logits_BnV=logits_BnV, probabilities_BnV=probabilities_BnV, codes_Bn=codes_Bn)
        return () if self._measure is None else self._measure(block)

    def _allocate(self, images: int) -> None:
        """Make storage for batches of so many images; first give back what graphs held."""
        self._graphs = None
        device, tokens = self.decoder.device, self.decoder.tokens
        self._uniforms_BT = torch.zeros(images, tokens, device=device)
        self.codes_BT = torch.zeros(images, tokens, dtype=torch.int64, device=device)
        if self._with_graphs:
            self._graphs = StepGraphs(device)


def sample_measured(
    sampler: Sampler, labels_B: Tensor, uniforms_BT: Tensor, orders_BT: Tensor | None = None
) -> tuple[Tensor, list[Measured]]:
    """Return the (B, T) codes of one batch, and what the sampler measures at every step."""
    steps: list[Measured] = []

    def observe(_: int, measured: Measured) -> None:
        steps.append(tuple(part.clone() for part in measured))

    return sampler.sample(labels_B, uniforms_BT, orders_BT, observe), steps


def sample_with_logits(
    decoder: Decoder,
    labels_B: Tensor,
    uniforms_BT: Tensor,
    orders_BT: Tensor | None = None,
    filter: Filter = EVERYTHING,
) -> tuple[Tensor, list[Tensor]]:
    """Return the (B, T) codes of one batch, and the (B, n, V) logits of every step."""
    sampler = Sampler(decoder, filter=filter, graphs=False, measure=lambda b: (b.logits_BnV,))
    codes_BT, steps = sample_measured(sampler, labels_B, uniforms_BT, orders_BT)
    return codes_BT, [logits_BnV for (logits_BnV,) in steps]
