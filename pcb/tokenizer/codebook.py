"""A codebook in training: every code follows the latents that choose it.

Codes are moving means of unit vectors, scaled back to length one; codes that no latent chooses are
moved to latents that are badly served. Knows no images and no scales.
"""

# Shape suffixes: N latents, V codebook size, C code dim.

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcb.tokenizer.quantize import normalize

_CLUSTERING_ROUNDS = 10
_REVIVED_WEIGHT = 0.5
"""Moving count of a code that was just moved: its first latents decide where it goes."""


@dataclass(kw_only=True)
class MovingCodebook:
    """Moving sums and counts of the latents that chose each code."""

    codes_VC: Tensor
    """Unit vectors, changed in place: the tokenizer's own buffer."""
    decay: float
    sums_VC: Tensor
    counts_V: Tensor
    idle_V: Tensor
    """Updates since a code was last chosen."""

    @classmethod
    def start(
        cls, codes_VC: Tensor, latents_NC: Tensor, decay: float, random: np.random.Generator
    ) -> "MovingCodebook":
        """Fill the codebook with the cluster centers of latents (k-means on the sphere).

        paper: the release draws codes from a normal distribution with the mean and the deviations
        of the latents; centers leave no code without latents from the start.
        """
        size = len(codes_VC)
        few = len(latents_NC) < size
        chosen = random.choice(len(latents_NC), size, replace=few)
        codes_VC.copy_(latents_NC[torch.from_numpy(chosen).to(latents_NC.device)])
        for _ in range(_CLUSTERING_ROUNDS):
            sums_VC, counts_V = _sums(latents_NC, (latents_NC @ codes_VC.T).argmax(1), size)
            codes_VC.copy_(torch.where(counts_V[:, None] > 0, normalize(sums_VC, 1), codes_VC))
        return cls(
            codes_VC=codes_VC,
            decay=decay,
            sums_VC=codes_VC.clone(),
            counts_V=torch.ones_like(codes_VC[:, 0]),
            idle_V=torch.zeros_like(codes_VC[:, 0]),
        )

    def update(self, latents_NC: Tensor, codes_N: Tensor) -> None:
        """Move every code toward the mean of the latents that chose it."""
        sums_VC, counts_V = _sums(latents_NC, codes_N, len(self.codes_VC))
        self.sums_VC.lerp_(sums_VC, 1 - self.decay)
        self.counts_V.lerp_(counts_V, 1 - self.decay)
        self.idle_V.add_(1).mul_(counts_V == 0)
        self.codes_VC.copy_(normalize(self.sums_VC, 1))

    def revive(
        self,
        latents_NC: Tensor,
        codes_N: Tensor,
        *,
        patience: int,
        most: int,
        random: np.random.Generator,
    ) -> int:
        """Move codes that were not chosen in the last `patience` updates; return how many.

        They go to latents drawn with probability proportional to the squared distance to their
        codes, at most `most` codes at a time.
        """
        dead = revive_unused(
            self.codes_VC,
            self.idle_V,
            latents_NC,
            codes_N,
            patience=patience,
            most=most,
            random=random,
        )
        self.sums_VC[dead] = _REVIVED_WEIGHT * self.codes_VC[dead]
        self.counts_V[dead] = _REVIVED_WEIGHT
        return len(dead)


def revive_unused(
    codes_VC: Tensor,
    idle_V: Tensor,
    latents_NC: Tensor,
    codes_N: Tensor,
    *,
    patience: int,
    most: int,
    random: np.random.Generator,
) -> Tensor:
    """Move codes that were idle for more than `patience` updates, in place; return their indices.

    They go to latents drawn with probability proportional to the squared distance to their codes
    `codes_N`, at most `most` codes at a time. Their idle times begin anew.
    """
    dead = (idle_V > patience).nonzero().flatten()[: min(most, len(latents_NC))]
    if len(dead):
        distances = (latents_NC - codes_VC[codes_N]).square().sum(1).double().cpu().numpy()
        weights = distances + 1e-9
        chosen = random.choice(
            len(weights), len(dead), replace=False, p=weights / weights.sum(), shuffle=False
        )
        codes_VC[dead] = latents_NC[torch.from_numpy(chosen).to(latents_NC.device)]
        idle_V[dead] = 0
    return dead


def perplexity(counts_V: Tensor) -> float:
    """Return exp of the entropy of how often codes are chosen: 1 to V, as if so many were equal."""
    frequencies = counts_V.double() / counts_V.double().sum()
    return float(torch.special.entr(frequencies).sum().exp())


def _sums(latents_NC: Tensor, codes_N: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the sum (V, C) and the number (V,) of the latents that chose each code."""
    sums_VC = latents_NC.new_zeros(size, latents_NC.shape[1]).index_add_(0, codes_N, latents_NC)
    counts_V = torch.bincount(codes_N, minlength=size).to(latents_NC.dtype)
    return sums_VC, counts_V
