"""A new codebook for a finished autoencoder (method section 3).

Encoder, decoder and the 1x1 convolutions stay as they are. Codes are the unit vectors of a weight
that Adam moves toward the latents that choose them.
"""

# Shape suffixes: B batch, C code dim, N latents, V codebook size, h w token grid.

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.config import Requantization
from pcb.tokenizer.codebook import perplexity, revive_unused
from pcb.tokenizer.quantize import lookup, nearest_codes, normalize, rows_of
from pcb.train.image_batches import draw_scale, random_of
from pcb.train.latents import Latents
from pcb.train.loop import Objective

CROPS = 2
"""Stream of random numbers that draws the crops of cached latents."""
_BATCHES, _CODES = 0, 1
_REVIVED_ONE_IN = 8
"""At most one code in so many is moved at a time."""
_USAGE_RATE = 0.01
_RARE = 1e-4
"""Moving rate of the codes' frequencies, and the fraction of their average below which a code is
redrawn, in the released code."""


@dataclass(kw_only=True)
class CodebookObjective(Objective[Tensor]):
    """A codebook in training, on the device of its latents."""

    latents: Latents
    settings: Requantization
    shape: tuple[int, int]
    """(V, C)."""
    device: torch.device

    def __post_init__(self) -> None:
        self.weight_VC = nn.Parameter(torch.empty(self.shape, device=self.device))
        self.optimizer = torch.optim.Adam(
            [self.weight_VC], lr=self.settings.learning_rate, betas=self.settings.betas
        )
        self._idle_V = torch.zeros(self.shape[0], device=self.device)
        self._usage_V = torch.zeros(self.shape[0], device=self.device)
        self._counts_V = torch.zeros(self.shape[0], device=self.device)

    @property
    def iterations(self) -> int:
        """Number of iterations of the whole training."""
        return self.settings.iterations

    def codes_VC(self) -> Tensor:
        """Return the codebook as it is now: (V, C) unit vectors."""
        return normalize(self.weight_VC, dim=1)

    def batch(self, iteration: int) -> Tensor:
        """Return an iteration's latents (B, C, h, w), of one scale drawn for all of them."""
        settings = self.settings
        random = random_of(settings.seed, _BATCHES, iteration)
        size = draw_scale(random, settings.scales, settings.scale_probability)
        return self.latents.draw(random, size, settings.batch_size)

    def start(self) -> None:
        """Draw the first codes where latents lie."""
        settings = self.settings
        # paper: the released code has seen about one batch when it takes the statistics.
        batches = 1 if settings.mode == "as_published" else settings.start_batches
        grids = (self.batch(iteration) for iteration in range(batches))
        random = random_of(settings.seed, _CODES, 0)
        if settings.mode == "as_intended":
            sized = ((grid_BChw.shape[-1], rows_of(grid_BChw)) for grid_BChw in grids)
            codes_VC = codes_by_scale(sized, self.shape[0], random)
        else:
            codes_VC = gaussian_codes(map(rows_of, grids), self.shape[0], random)
        self.weight_VC.data.copy_(codes_VC)

    def step(self, iteration: int, batch: Tensor) -> Tensor:
        """Take one optimizer step, then do to unused codes what the mode says.

        Returns the loss, (1,).
        """
        latents_BChw, codes_VC = batch, self.codes_VC()
        codes_Bhw = nearest_codes(latents_BChw, codes_VC.detach())
        # paper: a mean over channels too; how large it is beside Adam's epsilon decides steps.
        loss = F.mse_loss(lookup(codes_Bhw, codes_VC), latents_BChw)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        codes_N = codes_Bhw.flatten()
        counts_V = torch.bincount(codes_N, minlength=self.shape[0])
        self._counts_V += counts_V
        # paper: in the released code, redrawing has no effect.
        if self.settings.mode == "as_intended":
            self._redraw(iteration, counts_V / len(codes_N))
        elif self.settings.mode == "relocate":
            self._relocate(iteration, rows_of(latents_BChw), codes_N)
        return loss.detach()[None]

    def row(self, iteration: int, means_F: Tensor) -> dict[str, float]:
        """Return the mean loss since the last row, and perplexity and usage of all codes chosen."""
        usage = float((self._counts_V > 0).double().mean())
        spread = perplexity(self._counts_V)
        found = {"loss": float(means_F[0]), "perplexity": spread, "usage": usage}
        self._counts_V.zero_()
        return found

    def state(self) -> dict[str, Any]:
        """Weight, optimizer, and which codes were chosen when."""
        return {
            "weight": self.weight_VC.data,
            "optimizer": self.optimizer.state_dict(),
            "idle": self._idle_V,
            "usage": self._usage_V,
            "counts": self._counts_V,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.weight_VC.data.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._idle_V.copy_(state["idle"])
        self._usage_V.copy_(state["usage"])
        self._counts_V.copy_(state["counts"])

    @torch.no_grad()
    def _redraw(self, iteration: int, frequencies_V: Tensor) -> None:
        """Now and then, draw codes that are hardly used anew around the others.

        frequencies_V: how often each code was chosen in this iteration, with sum one.
        """
        self._usage_V.lerp_(frequencies_V, _USAGE_RATE)
        done, every = iteration + 1, self.settings.redraw_every
        if done < 2 * every or done % every:
            return
        used_V = self._usage_V > _RARE * self._usage_V.mean()
        rare = (~used_V).nonzero().flatten()
        used_NC = self.codes_VC()[used_V]
        if len(rare):
            random = random_of(self.settings.seed, _CODES, done)
            self._place(rare, gaussian_codes([used_NC], len(rare), random))

    @torch.no_grad()
    def _relocate(self, iteration: int, latents_NC: Tensor, codes_N: Tensor) -> None:
        """Move long unused codes to latents that are badly served."""
        self._idle_V += 1
        self._idle_V[codes_N] = 0
        moved_VC = self.codes_VC()
        dead = revive_unused(
            moved_VC,
            self._idle_V,
            latents_NC,
            codes_N,
            patience=self.settings.revive_after,
            most=max(1, self.shape[0] // _REVIVED_ONE_IN),
            random=random_of(self.settings.seed, _CODES, iteration + 1),
        )
        self._place(dead, moved_VC[dead])

    def _place(self, chosen: Tensor, codes_NC: Tensor) -> None:
        """Put codes elsewhere, without their old momentum."""
        self.weight_VC[chosen] = codes_NC.to(self.weight_VC)
        for moment in ("exp_avg", "exp_avg_sq"):
            self.optimizer.state[self.weight_VC][moment][chosen] = 0


class Moments:
    """Mean and deviation of latents, entry by entry, batch after batch."""

    def __init__(self) -> None:
        self.count = 0
        self._total_C, self._squares_C = torch.zeros(()), torch.zeros(())

    def add(self, latents_NC: Tensor) -> None:
        """Take in a batch."""
        rows_NC = latents_NC.double().cpu()
        self.count += len(rows_NC)
        self._total_C = self._total_C + rows_NC.sum(0)
        self._squares_C = self._squares_C + rows_NC.square().sum(0)

    def draw(self, size: int, random: np.random.Generator) -> Tensor:
        """Return (size, C) draws of the normal distribution, brought to length one."""
        mean_C = self._total_C / self.count
        deviation_C = (self._squares_C / self.count - mean_C.square()).clamp(min=0).sqrt()
        drawn_VC = torch.from_numpy(random.standard_normal((size, len(mean_C))))
        return normalize(mean_C + deviation_C * drawn_VC, dim=1).float()


def gaussian_codes(batches: Iterable[Tensor], size: int, random: np.random.Generator) -> Tensor:
    """Return (size, C) unit vectors of the mean and the deviation, entry by entry, of latents.

    batches: (N, C) each; drawn from a normal distribution, then brought to length one.
    """
    moments = Moments()
    for latents_NC in batches:
        moments.add(latents_NC)
    return moments.draw(size, random)


def codes_by_scale(
    batches: Iterable[tuple[int, Tensor]], size: int, random: np.random.Generator
) -> Tensor:
    """Return (size, C) unit vectors, allotted to scales in proportion to their latents.

    batches: a scale and its (N, C) latents each. A scale's codes have the mean and the deviation of
    its latents; there is at least one, and what rounding leaves over is the finest's.
    """
    scales: dict[int, Moments] = {}
    for scale, latents_NC in batches:
        scales.setdefault(scale, Moments()).add(latents_NC)
    total = sum(moments.count for moments in scales.values())
    codes, left = [], size
    *coarser, finest = (scales[scale] for scale in sorted(scales))
    for moments in coarser:
        share = min(left, max(1, size * moments.count // total))
        codes.append(moments.draw(share, random))
        left -= share
    return torch.cat([*codes, finest.draw(left, random)])
