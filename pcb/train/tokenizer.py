"""Training of the miniature's tokenizer: autoencoder and codebook together, all scales in turn.

The paper requantizes a finished autoencoder; the miniature has none and trains both. The first
iterations leave latents as they are; then codes are the clusters of the latents, and both are
trained.
"""

# Shape suffixes: B batch, C code dim, N latents, V codebook size, h w token grid, H W pixels.

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcb.config import TokenizerTraining
from pcb.data.images import Images
from pcb.tokenizer.autoencoder import Attention, ResidualBlock
from pcb.tokenizer.codebook import MovingCodebook, perplexity
from pcb.tokenizer.quantize import lookup, nearest_codes, rows_of
from pcb.tokenizer.vq import Tokenizer
from pcb.train.image_batches import at_scale, draw_images, draw_scale, random_of
from pcb.train.loop import Objective

_FIGURES = ("loss", "reconstruction", "commitment", "perplexity")
_WARMUP = 50
_LAST_RATE = 0.02
"""Learning rate of the last iteration, as a fraction of the highest."""
_START_IMAGES = 256
_START_LATENTS = 2048
"""Images, and at most so many latents of them, of each scale that make the first codebook."""
_REVIVED_AT_ONCE = 8
_BATCHES, _CODES = 0, 1


def initialize(tokenizer: Tokenizer) -> None:
    """Give weights that keep the variance of what they read, no biases, and quiet branches.

    Residual and attention branches start at zero. PyTorch's own start shrinks the signal layer by
    layer until biases drown it: colors then take a thousand iterations to get through.
    """
    for module in tokenizer.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for module in tokenizer.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.weight)
        elif isinstance(module, Attention):
            nn.init.zeros_(module.proj_out.weight)


@dataclass(kw_only=True)
class TokenizerObjective(Objective[Tensor]):
    """A tokenizer in training."""

    FIGURE: ClassVar = "reconstruction"
    tokenizer: Tokenizer
    images: Images
    settings: TokenizerTraining
    _codebook: MovingCodebook | None = None

    def __post_init__(self) -> None:
        self.device = self.tokenizer.codebook.device
        self.tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(
            self.tokenizer.parameters(), betas=self.settings.betas, lr=self.settings.learning_rate
        )

    @property
    def iterations(self) -> int:
        """Number of iterations of the whole training."""
        return self.settings.iterations

    def step(self, iteration: int, batch: Tensor) -> Tensor:
        """Take one optimizer step, and move the codebook after it; return the _FIGURES.

        The last entry says whether there were codes.
        """
        if iteration == int(self.settings.continuous * self.settings.iterations):
            self._codebook = self._start_codebook(iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, iteration)
        latents_BChw = self.tokenizer.encode(batch)
        vectors_BChw, commitment = latents_BChw, latents_BChw.new_zeros(())
        if self._codebook is not None:
            codes_Bhw = nearest_codes(latents_BChw.detach(), self.tokenizer.codebook)
            chosen_BChw = lookup(codes_Bhw, self.tokenizer.codebook)
            commitment = (latents_BChw - chosen_BChw).square().sum(1).mean()
            # Straight through: the decoder sees codes, the encoder the decoder's gradient.
            vectors_BChw = latents_BChw + (chosen_BChw - latents_BChw).detach()
        decoded_B3HW = self.tokenizer.decoder(self.tokenizer.post_quant_conv(vectors_BChw))
        reconstruction = F.mse_loss(decoded_B3HW, batch)
        loss = reconstruction + self.settings.commitment * commitment
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        spread, coded = 0.0, self._codebook is not None
        if self._codebook is not None:
            self._move_codebook(iteration, rows_of(latents_BChw.detach()), codes_Bhw.flatten())
            spread = perplexity(self._codebook.counts_V)
        figures = (loss.item(), reconstruction.item(), commitment.item(), spread, coded)
        return torch.tensor(figures, dtype=torch.float64, device=self.device)

    def row(self, iteration: int, means_F: Tensor) -> dict[str, float]:
        """Return the means of the _FIGURES since the last row.

        There is no perplexity unless all its iterations had codes.
        """
        *means, coded = means_F.tolist()
        row = dict(zip(_FIGURES, means, strict=True))
        return row if coded == 1 else {**row, "perplexity": math.nan}

    def batch(self, iteration: int) -> Tensor:
        """Return an iteration's images in [-1, 1], of one scale drawn for all of them."""
        settings = self.settings
        random = random_of(settings.seed, _BATCHES, iteration)
        size = draw_scale(random, settings.scales, settings.scale_probability)
        images_B3HW = draw_images(random, self.images, settings.batch_size, self.device)
        return at_scale(images_B3HW, size, self.tokenizer.stride)

    def state(self) -> dict[str, Any]:
        """Weights, optimizer and moving codebook."""
        moving = self._codebook
        return {
            "tokenizer": self.tokenizer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "codebook": moving and [moving.sums_VC, moving.counts_V, moving.idle_V],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["codebook"] is not None:
            sums_VC, counts_V, idle_V = (part.to(self.device) for part in state["codebook"])
            self._codebook = MovingCodebook(
                codes_VC=self.tokenizer.codebook,
                decay=self.settings.codebook_decay,
                sums_VC=sums_VC,
                counts_V=counts_V,
                idle_V=idle_V,
            )

    @torch.no_grad()
    def _start_codebook(self, iteration: int) -> MovingCodebook:
        """Return a codebook made of latents of all scales alike."""
        random = random_of(self.settings.seed, _CODES, iteration)
        images_B3HW = draw_images(random, self.images, _START_IMAGES, self.device)
        latents = []
        for size in self.settings.scales:
            scaled_B3HW = at_scale(images_B3HW, size, self.tokenizer.stride)
            rows_NC = rows_of(self.tokenizer.encode(scaled_B3HW))
            chosen = random.permutation(len(rows_NC))[:_START_LATENTS]
            latents.append(rows_NC[torch.from_numpy(chosen).to(self.device)])
        return MovingCodebook.start(
            self.tokenizer.codebook, torch.cat(latents), self.settings.codebook_decay, random
        )

    @torch.no_grad()
    def _move_codebook(self, iteration: int, latents_NC: Tensor, codes_N: Tensor) -> None:
        """Let codes follow their latents, and move unused ones until late in the run."""
        assert self._codebook is not None
        self._codebook.update(latents_NC, codes_N)
        if iteration < self.settings.revive_until * self.settings.iterations:
            self._codebook.revive(
                latents_NC,
                codes_N,
                patience=self.settings.revive_after,
                most=_REVIVED_AT_ONCE,
                random=random_of(self.settings.seed, _CODES, iteration),
            )


def learning_rate(settings: TokenizerTraining, iteration: int) -> float:
    """Return the rate of an iteration: up along a line, then down along half a cosine."""
    done = iteration / settings.iterations
    fall = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * fall * min(1.0, (iteration + 1) / _WARMUP)
