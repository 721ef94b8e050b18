"""A new codebook for a finished autoencoder (method section 3).

Encoder, decoder and the 1x1 convolutions stay as they are. Codes are the unit vectors of a weight
that Adam moves towards the latents that choose them.
"""

# Shape suffixes: B batch, C code dim, N latents, V codebook size, h w token grid.

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pcb.config import Requantisation
from pcb.tokenizer.codebook import perplexity, revive_unused
from pcb.tokenizer.quantize import lookup, nearest_codes, normalise, rows_of
from pcb.train.image_batches import draw_scale, random_of
from pcb.train.latents import Latents
from pcb.train.tokenizer_loop import Loop

CROPS = 2
"""Stream of random numbers that draws the crops of cached latents."""
_BATCHES, _CODES = 0, 1
_REVIVED_SHARE = 8
"""At most one code in so many is moved at a time."""


@dataclass(kw_only=True)
class Requantiser(Loop):
    """A codebook in training, on the device of its latents."""

    latents: Latents
    settings: Requantisation
    shape: tuple[int, int]
    """(V, C)."""
    device: torch.device

    def __post_init__(self) -> None:
        self.weight_VC = nn.Parameter(torch.empty(self.shape, device=self.device))
        self.optimizer = torch.optim.Adam(
            [self.weight_VC], lr=self.settings.learning_rate, betas=self.settings.betas
        )
        self._idle_V = torch.zeros(self.shape[0], device=self.device)
        self._counts_V = torch.zeros(self.shape[0], device=self.device)
        if not self.resume():
            self._start()

    @property
    def iterations(self) -> int:
        """Number of iterations of the whole training."""
        return self.settings.iterations

    @property
    def revives(self) -> bool:
        """Whether unused codes are moved."""
        # paper: in the released code, revival has no effect.
        return self.settings.mode == "as_intended"

    def codes_VC(self) -> Tensor:
        """Return the codebook as it is now: (V, C) unit vectors."""
        return normalise(self.weight_VC, dim=1)

    def batch(self, iteration: int) -> Tensor:
        """Return an iteration's latents (B, C, h, w), of one scale drawn for all of them."""
        settings = self.settings
        random = random_of(settings.seed, _BATCHES, iteration)
        size = draw_scale(random, settings.scales, settings.scale_probability)
        return self.latents.draw(random, size, settings.batch_size)

    def step(self) -> None:
        """Take one optimiser step, then move codes that were long unused."""
        latents_BChw, codes_VC = self.batch(self.iteration), self.codes_VC()
        codes_Bhw = nearest_codes(latents_BChw, codes_VC.detach())
        loss = (lookup(codes_Bhw, codes_VC) - latents_BChw).square().sum(1).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        codes_N = codes_Bhw.flatten()
        self._counts_V += torch.bincount(codes_N, minlength=self.shape[0])
        if self.revives:
            self._revive(rows_of(latents_BChw), codes_N)
        self.record(loss=loss.item())

    def row(self) -> dict[str, float]:
        """Return the mean loss since the last row, and perplexity and usage of all codes chosen."""
        usage = float((self._counts_V > 0).double().mean())
        found = {**super().row(), "perplexity": perplexity(self._counts_V), "usage": usage}
        self._counts_V.zero_()
        return found

    def state(self) -> dict[str, Any]:
        """Weight, optimiser, and which codes were chosen when."""
        return {
            "weight": self.weight_VC.data,
            "optimizer": self.optimizer.state_dict(),
            "idle": self._idle_V,
            "counts": self._counts_V,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.weight_VC.data.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._idle_V.copy_(state["idle"])
        self._counts_V.copy_(state["counts"])

    def _start(self) -> None:
        """Draw the first codes where latents lie."""
        # paper: the released code has seen about one batch when it takes the statistics.
        batches = self.settings.start_batches if self.revives else 1
        latents = (rows_of(self.batch(iteration)) for iteration in range(batches))
        random = random_of(self.settings.seed, _CODES, 0)
        self.weight_VC.data.copy_(gaussian_codes(latents, self.shape[0], random))

    @torch.no_grad()
    def _revive(self, latents_NC: Tensor, codes_N: Tensor) -> None:
        """Move unused codes to latents that are badly served, without their old momentum."""
        self._idle_V += 1
        self._idle_V[codes_N] = 0
        moved_VC = self.codes_VC()
        dead = revive_unused(
            moved_VC,
            self._idle_V,
            latents_NC,
            codes_N,
            patience=self.settings.revive_after,
            most=max(1, self.shape[0] // _REVIVED_SHARE),
            random=random_of(self.settings.seed, _CODES, self.iteration + 1),
        )
        self.weight_VC[dead] = moved_VC[dead]
        for moment in ("exp_avg", "exp_avg_sq"):
            self.optimizer.state[self.weight_VC][moment][dead] = 0


def gaussian_codes(batches: Iterable[Tensor], size: int, random: np.random.Generator) -> Tensor:
    """Return (size, C) unit vectors of the mean and the deviation, entry by entry, of latents.

    batches: (N, C) each; drawn from a normal distribution, then brought to length one.
    """
    count, total_C, squares_C = 0, torch.zeros(()), torch.zeros(())
    for latents_NC in batches:
        rows_NC = latents_NC.double().cpu()
        count += len(rows_NC)
        total_C = total_C + rows_NC.sum(0)
        squares_C = squares_C + rows_NC.square().sum(0)
    mean_C = total_C / count
    deviation_C = (squares_C / count - mean_C.square()).clamp(min=0).sqrt()
    drawn_VC = torch.from_numpy(random.standard_normal((size, len(mean_C))))
    return normalise(mean_C + deviation_C * drawn_VC, dim=1).float()
