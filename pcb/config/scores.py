"""Settings of metrics and verdicts (method sections 7 and 8)."""

from typing import Annotated, Literal

from msgspec import Meta

from pcb.config.base import Count, Fraction, NonNegativeFloat, Positive, PositiveFloat, Settings


class Classifier(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The miniature's feature extractor: a small convolutional classifier."""

    iterations: Positive = 500
    batch_size: Positive = 64
    learning_rate: PositiveFloat = 1e-2
    features: Positive = 128
    """Channels of the last convolution; their means serve FID, KID, precision and recall."""
    min_accuracy: Fraction = 0.97
    """On held-out renderings; below it the stage fails, since its metrics would mean little."""
    seed: Count = 0


class Metrics(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured, and by which protocol."""

    extractor: Literal["classifier", "inception"] = "classifier"
    """`classifier` is the miniature's own; `inception` is ADM's protocol (method section 7)."""
    reference_images: Positive = 10_000
    """Images that ADM's reference file must hold; a classifier compares with those of `data`."""
    decode_precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of decoding what is scored; `python -m benchmarks tokenizer/decode` shows the change."""
    splits: Positive = 10
    """Consecutive splits of the Inception score."""
    nearest: Positive = 3
    """k of precision and recall."""
    kid_subsets: Positive = 100
    kid_subset_size: Positive = 1000
    bootstrap: Annotated[int, Meta(ge=2)] = 20
    """Resamplings of the images behind the standard error of FID."""
    torch_fidelity: bool = False
    """Whether torch-fidelity's own figures, by its defaults, stand beside ours."""

    def check_counts(self, images: int, reference_images: int | None) -> None:
        """Raise ValueError unless every metric is defined for this many images.

        None: how many images there are to compare with is not known yet.
        """
        least = max(self.kid_subset_size, self.nearest + 1)
        for name, count in (("images", images), ("reference images", reference_images)):
            if count is not None and count < least:
                raise ValueError(
                    f"{count} {name} are too few for kid_subset_size {self.kid_subset_size} "
                    f"and nearest {self.nearest}: expected at least {least}"
                )
        # A short last split would drag the Inception score down (method section 7).
        if images % self.splits:
            raise ValueError(f"{images} images cannot be cut into {self.splits} equal splits")


class Likelihood(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of held-out images, under every unguided schedule of the sweep, and sampled one by one."""

    images: Positive | None = None
    """Held-out images, the same number of every class as far as there are any; None takes all."""


class Claims(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds of the verdicts, stated before the numbers (method section 8)."""

    few_steps_gain: NonNegativeFloat = 0.25
    """C1a: FID with one block per scale exceeds that at `compare_steps` by at least this much."""
    flat_beyond: NonNegativeFloat = 0.10
    """C1b: beyond `compare_steps`, FID changes by at most this fraction of its value there."""
    ratio_spread: NonNegativeFloat = 0.20
    """C2: at equal steps the ratios' FIDs lie within this fraction: largest / smallest - 1."""
    fid_training_spread: NonNegativeFloat = 0.0
    """C2, C3: standard deviation of FID, as a fraction of it, between trainings of one model with
    other seeds: part of the error where every model was trained once. 0: nothing is known."""
    few_steps_price: NonNegativeFloat = 0.02
    """C1a: one block per scale loses at least this fraction of the likelihood (of the NLL at one
    token per block). Twice what another seed of training changes a price by (`flat_price`): less
    cannot be told from chance."""
    flat_price: NonNegativeFloat = 0.01
    """C1b: more than `compare_steps` gain at most this fraction of it. Another seed of training
    changes a price by about one percent of the NLL: a gain below that is none."""
    ratio_price_spread: NonNegativeFloat = 0.03
    """C2: at equal steps the ratios' prices lie within this fraction of it. Of three models whose
    prices vary by one percent with the seed, the largest and the smallest come this far apart by
    chance about once in twelve; more is a difference of ratios."""
    mixing_nll_gain: NonNegativeFloat = 0.03
    """C3: mixing lowers the NLL by at most this fraction. Two trainings of the same model differ by
    up to three percent; only more is a clear gain."""
    compare_steps: Positive = 17
    ratios: tuple[Annotated[float, Meta(gt=1)], ...] = (2.0, 3.0, 4.0)
    """Ratios that C2 compares; it stays open unless all of them were run."""
    equal_steps: tuple[Positive, ...] = (13, 17)
    """Step counts at which C2 is decided."""
    mixing_gain: NonNegativeFloat = 0.05
    """C3: mixing changes FID by at most this fraction."""
    published_spread: NonNegativeFloat = 0.05
    """C4: FID and IS of the headline rows differ from the published by at most this fraction."""
    peers: tuple[str, ...] = ("PAR-L-4x", "RandAR-L", "LlamaGen-L")
    """C5: published systems whose steps and times are to be undercut."""
