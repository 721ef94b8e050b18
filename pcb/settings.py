"""The schema of params.yaml: every setting, its type, its range and its default.

Reading the file, presets and overrides are `pcb.params`; here is only what a checked setting looks
like. A function takes the part that it uses, never the whole. Settings that change a result live
with their stage and enter its key (`pcb.pipeline`); how fast it is computed lives in `Compute`,
which enters no key.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pcb.schedule import Schedule, scale_sizes, schedule_from_blocks, schedule_from_total

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]*$")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every group of settings: frozen, by keyword only, an unknown key is an error."""


# ---- data ---------------------------------------------------------------------------------------


class Digits(
    Settings, tag="digits", tag_field="kind", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """scikit-learn's handwritten digits (1,797 of 8x8, 10 classes), coloured and placed on RGB."""

    image_size: Positive = 32
    digit_size: Positive = 22
    """Side in pixels of the upscaled digit, before it is placed."""
    held_out: Annotated[float, Meta(gt=0, lt=1)] = 0.25
    """Share of the digit images, of each class, that no model sees."""
    renderings: Positive = 16
    """Coloured placements of each training digit; they play the part of ImageNet's ten crops."""
    reference_images: Positive = 2000
    """Renderings of held-out digits that metrics compare with."""
    seed: Count = 0

    @property
    def num_classes(self) -> int:
        """Number of classes, labels 0 to num_classes - 1."""
        return 10


# ---- tokenizer ----------------------------------------------------------------------------------


class Autoencoder(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Architecture of the VQ autoencoder (LlamaGen's VQ-16 by default; METHOD section 3)."""

    channels: Positive = 128
    channel_multipliers: tuple[Positive, ...] = (1, 1, 2, 2, 4)
    residual_blocks: Positive = 2
    """A level of the encoder; a level of the decoder has one more."""
    latent_channels: Positive = 256
    code_dim: Positive = 8
    codebook_size: Annotated[int, Meta(ge=2, le=65536)] = 4096
    norm_groups: Positive = 32

    def __post_init__(self) -> None:
        for multiplier in self.channel_multipliers:
            if self.channels * multiplier % self.norm_groups:
                raise ValueError(
                    f"norm_groups {self.norm_groups} must divide the width of every level, "
                    f"but {self.channels} channels times {multiplier} is no multiple of it"
                )

    @property
    def stride(self) -> int:
        """Pixels a token, along one side."""
        return int(2 ** (len(self.channel_multipliers) - 1))


class TokenizerTraining(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the miniature's tokenizer is trained, images of all scales in turn."""

    iterations: Positive
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.99)
    scales: tuple[Positive, ...] = (1, 2, 4, 8, 16)
    """Sides of the token grids that training draws from; the last is the finest."""
    scale_probability: Share = 0.9
    """Probability that a batch's scale is drawn uniformly from all scales; else the finest."""
    commitment: NonNegativeFloat = 0.25
    """Weight of the pull of latents towards their codes."""
    continuous: Annotated[float, Meta(ge=0, lt=1)] = 0.25
    """Leading share of the iterations that train without codes: these start from its latents."""
    codebook_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.98
    """What a code keeps of itself in an iteration; the rest is the latents that chose it."""
    revive_after: Positive = 50
    """Iterations in which a code was not chosen, before it is moved to where it is needed."""
    revive_until: Share = 0.85
    """Share of the iterations after which codes are no longer moved, so that all settle."""
    seed: Count = 0


class Tokenizer(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the tokenizer comes from: `train` makes one from the data."""

    source: Literal["train"] = "train"
    autoencoder: Autoencoder
    training: TokenizerTraining | None = None

    def __post_init__(self) -> None:
        if self.source == "train" and self.training is None:
            raise ValueError("tokenizer source `train` needs `training`")


class Tokens(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token cache: codes of every training image at every scale that a model needs."""

    shard_images: Positive = 512


# ---- model and training -------------------------------------------------------------------------


class Model(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Architecture of the transformer (paper, section 4). Defaults are the paper's size S."""

    scale_ratio: Annotated[float, Meta(gt=1)] | Literal["single"] = 2.0
    """Quotient of the sides of neighbouring scales; `single` draws the finest scale alone."""
    min_size: Positive = 1
    width: Positive = 512
    layers: Positive = 12
    heads: Positive = 16
    hidden: Positive = 1536
    """Width of the SwiGLU layer."""
    mixing_layers: Count = 2
    """Leading layers whose keys mix the rotary phases of a cell and of the cell a block earlier."""
    head_mlp: bool = False
    class_conditional: bool = True
    init: Literal["as_published", "as_intended"] = "as_published"
    """`as_intended` starts AdaLN at scale 1, shift 0; the released code overwrites that start."""

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} must be an even multiple of the number of heads {self.heads}"
            )
        if self.mixing_layers > self.layers:
            raise ValueError(f"{self.mixing_layers} mixing layers in a model of {self.layers}")

    def sizes(self, final: int) -> tuple[int, ...]:
        """Return the sides of the scales for a finest grid of `final` tokens a side."""
        ratio = None if self.scale_ratio == "single" else float(self.scale_ratio)
        return scale_sizes(final, ratio, min(self.min_size, final))


class LearningRateStep(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From this epoch on, the learning rate is multiplied by this factor (factors accumulate)."""

    epoch: NonNegativeFloat
    factor: PositiveFloat


class Training(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training of one transformer (paper, section 5)."""

    epochs: PositiveFloat
    """Passes over the training images; each pass draws one crop an image."""
    batch_size: Positive = 128
    """Images an iteration, over all ranks together."""
    learning_rate: PositiveFloat = 1e-4
    warmup_epochs: NonNegativeFloat = 1.0
    steps: tuple[LearningRateStep, ...] = ()
    betas: tuple[Share, Share] = (0.9, 0.95)
    weight_decay: NonNegativeFloat = 0.01
    label_dropout: Share = 0.1
    """Probability that an image's label becomes "no class"."""
    random_replace: Share = 0.1
    """Probability that a token of the previous scale is replaced before it is upsampled."""
    join_remainder: Share = 0.5
    """Probability that a scale's last, smaller block joins the block before it."""
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights; 0 turns it off. If on, it is what samples."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    seed: Count = 0


class ModelRun(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `models`: a transformer and its training, both with the preset's defaults."""

    model: Model
    training: Training


# ---- sampling -----------------------------------------------------------------------------------


class Sampling(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all settings of the sweep share."""

    images: Positive = 50_000
    seed: Count = 0
    temperature: NonNegativeFloat = 1.0
    """0 takes the likeliest code."""
    shard_images: Positive = 1000
    """Images a file: the unit that an interrupted run keeps."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class SweepPoint(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to draw images: blocks and guidance. Expanded from a `Sweep`."""

    blocks: Positive | tuple[Positive, ...] | None = None
    """K of the paper, or the number of blocks for each scale."""
    total_steps: Positive | None = None
    """Exact number of steps, spread over the scales; instead of `blocks`."""
    cfg: NonNegativeFloat = 0.0
    """Guidance weight g of cond + g (cond - uncond); other papers print g + 1."""
    cfg_start_step: Count = 5
    """Guidance is off before this step; step 0 is the first block of the coarsest scale."""

    def schedule(self, sizes: tuple[int, ...]) -> Schedule:
        """Return the schedule for a model with these scales, or raise ValueError."""
        if self.total_steps is not None:
            return schedule_from_total(sizes, self.total_steps)
        assert self.blocks is not None, "SweepPoint has neither blocks nor total_steps"
        return schedule_from_blocks(sizes, self.blocks)

    @property
    def name(self) -> str:
        """Name of the setting: `t17`, `k4`, `k1-4-4`, with `-cfg1.5-start5` where guided."""
        if self.total_steps is not None:
            name = f"t{self.total_steps}"
        elif isinstance(self.blocks, tuple):
            name = "k" + "-".join(map(str, self.blocks))
        else:
            name = f"k{self.blocks}"
        return f"{name}-cfg{self.cfg:g}-start{self.cfg_start_step}" if self.cfg else name


class Sweep(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product of models, block settings and guidance weights."""

    models: tuple[Name, ...]
    blocks: tuple[Positive | tuple[Positive, ...], ...] = ()
    total_steps: tuple[Positive, ...] = ()
    cfg: tuple[NonNegativeFloat, ...] = (0.0,)
    cfg_start_step: Count = 5

    def __post_init__(self) -> None:
        if not (self.blocks or self.total_steps):
            raise ValueError("a sweep needs `blocks` or `total_steps`")

    def points(self) -> tuple[SweepPoint, ...]:
        """Return the product of block settings and guidance weights, in the order given."""
        cuts = [SweepPoint(blocks=k) for k in self.blocks]
        cuts += [SweepPoint(total_steps=t) for t in self.total_steps]
        return tuple(
            msgspec.structs.replace(cut, cfg=cfg, cfg_start_step=self.cfg_start_step)
            for cut in cuts
            for cfg in self.cfg
        )


# ---- metrics and report -------------------------------------------------------------------------


class Classifier(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The miniature's feature extractor: a small convolutional classifier."""

    iterations: Positive = 500
    batch_size: Positive = 64
    learning_rate: PositiveFloat = 1e-2
    features: Positive = 128
    """Channels of the last convolution; their means serve FID, KID, precision and recall."""
    min_accuracy: Share = 0.97
    """On held-out renderings; below it the stage fails, since its metrics would mean little."""
    seed: Count = 0


class Metrics(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured, and by which protocol."""

    extractor: Literal["classifier"] = "classifier"
    splits: Positive = 10
    """Consecutive splits of the Inception score."""
    nearest: Positive = 3
    """k of precision and recall."""
    kid_subsets: Positive = 100
    kid_subset_size: Positive = 1000
    bootstrap: Annotated[int, Meta(ge=2)] = 20
    """Resamplings of the images behind the standard error of FID."""

    def check_counts(self, images: int, reference_images: int) -> None:
        """Raise ValueError unless every metric is defined for this many images."""
        least = max(self.kid_subset_size, self.nearest + 1)
        for name, count in (("images", images), ("reference images", reference_images)):
            if count < least:
                raise ValueError(
                    f"{count} {name} are too few for kid_subset_size {self.kid_subset_size} "
                    f"and nearest {self.nearest}: expected at least {least}"
                )
        # A short last split would drag the Inception score down (METHOD section 7).
        if images % self.splits:
            raise ValueError(f"{images} images cannot be cut into {self.splits} equal splits")


class Claims(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds of the verdicts, stated before the numbers (METHOD section 8)."""

    few_steps_gain: NonNegativeFloat = 0.25
    """C1: FID with one block a scale exceeds FID at `compare_steps` by at least this share."""
    flat_beyond: NonNegativeFloat = 0.10
    """C1: beyond `compare_steps`, FID changes by at most this share of its value there."""
    ratio_spread: NonNegativeFloat = 0.20
    """C2: at equal steps the ratios' FIDs lie within this share: largest / smallest - 1."""
    compare_steps: Positive = 17
    ratios: tuple[Annotated[float, Meta(gt=1)], ...] = (2.0, 3.0, 4.0)
    """Ratios that C2 compares; it stays open unless all of them were run."""
    equal_steps: tuple[Positive, ...] = (13, 17)
    """Step counts at which C2 is decided."""
    mixing_gain: NonNegativeFloat = 0.05
    """C3: mixing changes FID by at most this share."""


class Compute(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast, not what: none of this enters a key."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive = 2
    """CPU threads of a training process."""
    sampling_batch: Positive = 64
    encoding_batch: Positive = 64
    feature_batch: Positive = 250
    checkpoint_seconds: PositiveFloat = 60.0
    """Longest time between two checkpoints of a training run."""


class Preset(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment: everything from data to report. `models` is checked entry by entry."""

    description: str
    data: Digits
    tokenizer: Tokenizer
    tokens: Tokens
    models: dict[Name, ModelRun]
    sampling: Sampling
    sweep: tuple[Sweep, ...]
    classifier: Classifier | None = None
    metrics: Metrics
    claims: Claims = Claims()
    compute: Compute = Compute()

    @property
    def grid(self) -> int:
        """Side of the finest token grid."""
        return self.data.image_size // self.tokenizer.autoencoder.stride

    def sizes(self, model: str) -> tuple[int, ...]:
        """Sides of a model's scales, coarse to fine."""
        return self.models[model].model.sizes(self.grid)

    @property
    def all_sizes(self) -> tuple[int, ...]:
        """Sides of every scale that some model needs: what the token cache holds."""
        return tuple(sorted({size for model in self.models for size in self.sizes(model)}))

    def points(self, model: str) -> tuple[SweepPoint, ...]:
        """Return every sampling setting of a model once, in the order of params.yaml."""
        found = (p for sweep in self.sweep if model in sweep.models for p in sweep.points())
        return tuple(dict.fromkeys(found))
