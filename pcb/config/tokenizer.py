"""Settings of the tokenizer and of the token cache (method section 3)."""

from typing import Annotated, Literal

from msgspec import Meta

from pcb.config.base import Count, Fraction, NonNegativeFloat, Positive, PositiveFloat, Settings


class Autoencoder(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Architecture of the VQ autoencoder (LlamaGen's VQ-16 by default; method section 3)."""

    channels: Positive = 128
    channel_multipliers: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (1, 1, 2, 2, 4)
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
        """Pixels per token, along one side."""
        return int(2 ** (len(self.channel_multipliers) - 1))


class TokenizerTraining(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the miniature's tokenizer is trained, images of all scales in turn."""

    iterations: Positive
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    scales: tuple[Positive, ...] = (1, 2, 4, 8, 16)
    """Sides of the token grids that training draws from; the last is the finest."""
    scale_probability: Fraction = 0.9
    """Probability that a batch's scale is drawn uniformly from all scales; else the finest."""
    commitment: NonNegativeFloat = 0.25
    """Weight of the pull of latents toward their codes."""
    continuous: Annotated[float, Meta(ge=0, lt=1)] = 0.25
    """Leading fraction of the iterations that train without codes: these start from its latents."""
    codebook_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.98
    """What a code keeps of itself in an iteration; the rest is the latents that chose it."""
    revive_after: Positive = 50
    """Iterations in which a code was not chosen, before it is moved to where it is needed."""
    revive_until: Fraction = 0.85
    """Fraction of the iterations after which codes are no longer moved, so that all settle."""
    seed: Count = 0


class Requantization(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new codebook for LlamaGen's autoencoder, which itself stays as it is (method section 3)."""

    mode: Literal["as_published", "as_intended", "relocate"] = "as_intended"
    """`as_published` begins from the statistics of the first batch and never moves unused codes,
    as the released code does in effect.

    `as_intended` is what that code sets out to do: first codes are allotted to scales in proportion
    to their latents in many batches, and now and then codes that are hardly used are drawn anew
    around the others. `relocate` is this project's own way: first codes from many batches of all
    scales, and unused codes move to latents that are badly served."""
    iterations: Positive = 20_000
    """The paper does not say how many."""
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 1e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.9)
    scales: tuple[Positive, ...] = (1, 2, 4, 8, 16)
    """Sides of the token grids that training draws from; the last is the finest."""
    scale_probability: Fraction = 0.9
    """Probability that a batch's scale is drawn uniformly from all scales; else the finest."""
    start_batches: Positive = 1000
    """Batches whose latents say where the first codes lie, except in the mode `as_published`."""
    redraw_every: Positive = 1000
    """Iterations between two redraws of the mode `as_intended`; the first comes after twice as
    many."""
    revive_after: Positive = 100
    """Iterations in which a code was not chosen, before the mode `relocate` moves it."""
    cached_images: Positive | None = None
    """Random crops that are encoded once, at every scale, to draw all batches from; None encodes
    every batch as it is drawn."""
    measured_images: Positive = 50_000
    """Held-out images, at most, on which both codebooks are measured."""
    rfid: bool = False
    """Whether that includes rFID, which needs the Inception weights of `pcb fetch`."""
    seed: Count = 0


class Tokenizer(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the tokenizer comes from.

    `train` makes one from the data; `requantize` gives LlamaGen's a new codebook; `released` takes
    the authors' file.
    """

    source: Literal["train", "requantize", "released"] = "train"
    autoencoder: Autoencoder = Autoencoder()
    training: TokenizerTraining | None = None
    requantization: Requantization | None = None
    tf32: bool = False
    """Whether a GPU encodes images with TF32 convolutions: much faster, and some codes differ.
    Measured, decoded and scored without it all the same."""

    def __post_init__(self) -> None:
        wanted = {"train": "training", "requantize": "requantization"}
        for source, name in wanted.items():
            if (self.source == source) != (getattr(self, name) is not None):
                raise ValueError(f"tokenizer source `{source}` goes with `{name}`, and only it")


class Tokens(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The codes of every training image at every scale that a model needs."""

    source: Literal["cache", "images"] = "cache"
    """`cache` encodes all images once; `images` encodes a batch when training draws it, with the
    same result for the same crops."""
    shard_images: Positive = 512
