"""Settings of a transformer and of its training (method sections 4 and 5)."""

from typing import Annotated, Literal

from msgspec import Meta

from pcb.config.base import Count, Fraction, NonNegativeFloat, Positive, PositiveFloat, Settings
from pcb.order.names import CHECKERBOARD
from pcb.order.schedule import scale_sizes


class Model(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Architecture of the transformer (paper, section 4). Defaults are the paper's size S."""

    scale_ratio: Annotated[float, Meta(gt=1)] | Literal["single"] = 2.0
    """Quotient of the sides of neighboring scales; `single` samples the finest scale alone."""
    min_size: Positive = 1
    width: Positive = 512
    layers: Positive = 12
    heads: Positive = 16
    hidden: Positive = 1536
    """Width of the SwiGLU layer."""
    mixing_layers: Count = 2
    """Leading layers whose keys mix the rotary phases of a cell and of the cell a block earlier."""
    order: str = CHECKERBOARD
    """Sampling order of a scale's tokens, one of `ORDER_NAMES`; blocks are runs of it.

    For a comparison of orders: the paper has the checkerboard alone.
    """
    head_mlp: bool = False
    init: Literal["as_published", "as_intended", "narrow"] = "as_published"
    """`as_intended` starts AdaLN at scale 1, shift 0; the released code overwrites that start.

    `narrow` does so too, and lets all weights follow their fan-in, so that code vectors are heard
    from the start: a model 128 wide learns digits several times faster with it.
    """

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} must be an even multiple of the number of heads {self.heads}"
            )
        if self.mixing_layers > self.layers:
            raise ValueError(f"{self.mixing_layers} mixing layers in a model of {self.layers}")

    def sizes(self, final: int) -> tuple[int, ...]:
        """Return the sides of the scales for a finest grid of `final` tokens per side."""
        ratio = None if self.scale_ratio == "single" else float(self.scale_ratio)
        return scale_sizes(final, ratio, min(self.min_size, final))


class LearningRateStep(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From this epoch on, the learning rate is multiplied by this factor (factors accumulate)."""

    epoch: NonNegativeFloat
    factor: PositiveFloat


class Training(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training of one transformer (paper, section 5)."""

    epochs: PositiveFloat
    """Passes over the training images; each pass draws one crop per image."""
    batch_size: Positive = 128
    """Images per iteration, over all ranks together."""
    learning_rate: PositiveFloat = 1e-4
    warmup_epochs: NonNegativeFloat = 1.0
    steps: tuple[LearningRateStep, ...] = ()
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    weight_decay: NonNegativeFloat = 0.01
    head_mlp_decay: NonNegativeFloat = 1e-3
    """Fraction of what a head MLP adds to the head's weight that its gradient grows by: half of it
    times the squared norm is an L2 term of the loss, which the reported loss leaves out."""
    label_dropout: Fraction = 0.1
    """Probability that an image's label becomes the null class."""
    random_replace: Fraction = 0.1
    """Probability that a token of the previous scale is replaced before it is upsampled."""
    schedules: Positive = 8
    """Schedules that are drawn for a batch, each for an equal part of its images.

    The released code draws one per process; how many there were is not published, eight are
    assumed. No result depends on how many ranks train.
    """
    join_remainder: Fraction = 0.5
    """Probability that a scale's last, smaller block joins the block before it."""
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights; 0 turns it off. If on, it is what samples."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    seed: Count = 0


class ModelRun(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `models`: a transformer, and its training or the released weights it takes."""

    model: Model
    training: Training | None = None
    released: str | None = None
    """Name of the authors' weights (`pcb fetch --list`); there is then no training."""
    seeds: Positive | None = None
    """Trainings, of seeds from `training.seed` on; an entry of its own for each
    (`pcb.config.seeds`), so that a preset's models have none any more."""

    def __post_init__(self) -> None:
        if (self.training is None) == (self.released is None):
            raise ValueError("a model needs either `training` or `released`")
