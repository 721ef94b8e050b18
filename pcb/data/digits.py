"""The miniature's images: scikit-learn's handwritten digits, colored and placed on RGB.

Every image is a function of (seed, split, digit, rendering) alone, by a counter-based generator,
so that no image changes when others are added, left out or made in another order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pcb.config import Digits
from pcb.config.images import held_out_of

Split = Literal["train", "held_out"]
_STREAMS: dict[Split, int] = {"train": 0, "held_out": 1}
_SPLITTING = 2
_GLYPH_SIDE = 8
# Saturation and value of the two colors: of any two hues they are far apart in lightness, so that
# every digit can be read.
_DARK = (0.75, 0.35)
_LIGHT = (0.35, 0.95)
_UNIFORMS = 5
# Coverage below the first is background and above the second is ink: upscaled strokes stay crisp.
_INK_EDGES = (0.1, 0.75)


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """Handwritten digits: gray (n, 8, 8) in 0..1, labels (n,) in 0..9."""

    gray: NDArray[np.float64]
    labels: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> "Glyphs":
        """Return some of the digits."""
        return Glyphs(gray=self.gray[indices], labels=self.labels[indices])


def load_glyphs() -> Glyphs:
    """Return the 1,797 digits that ship inside scikit-learn."""
    # Imported here: it takes a second, and only this function needs it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Glyphs(gray=digits.images / 16.0, labels=digits.target.astype(np.int64))


def split_indices(
    labels: NDArray[np.int64], held_out: float, seed: int
) -> dict[Split, NDArray[np.int64]]:
    """Split digit images at random, class by class; both index arrays are ascending.

    At least one digit of each class is held out, and at least one is not.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, _SPLITTING]))
    held = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held.append(members[: held_out_of(len(members), held_out)])
    held_indices = np.sort(np.concatenate(held))
    return {"train": np.setdiff1d(np.arange(len(labels)), held_indices), "held_out": held_indices}


def render(
    glyphs: Glyphs,
    indices: NDArray[np.int64],
    renderings: NDArray[np.int64],
    split: Split,
    settings: Digits,
) -> NDArray[np.uint8]:
    """Return (n, 3, size, size) images: rendering `renderings[i]` of digit `indices[i]`.

    `indices` count within the split's glyphs.
    """
    uniforms = _uniforms(settings.seed, split, indices, renderings)
    places = (settings.image_size - settings.digit_size) // settings.place_step + 1
    corners = np.floor(uniforms[:, :2] * places) * settings.place_step
    ink = _ink(glyphs.gray[indices], corners, settings)[:, None]
    paper, pen = (color[:, :, None, None] for color in _colors(uniforms[:, 2:], settings.hues))
    return np.rint(255 * (paper * (1 - ink) + pen * ink)).astype(np.uint8)


def _uniforms(
    seed: int, split: Split, indices: NDArray[np.int64], renderings: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each image's random numbers in [0, 1): 2 for its place, 7 for its colors."""
    key = [seed, _STREAMS[split]]
    # The generator counts up the first word: the others name the image.
    return np.stack(
        [
            np.random.Generator(np.random.Philox(key=key, counter=[0, index, rendering, 0])).random(
                _UNIFORMS
            )
            for index, rendering in zip(indices.tolist(), renderings.tolist(), strict=True)
        ]
    )


def _colors(
    uniforms: NDArray[np.float64], hues: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (n, 3) RGB background and foreground in 0..1: dark on light, or light on dark."""
    hue = np.floor(uniforms * hues) / hues
    dark, light = _rgb(hue[:, 0], *_DARK), _rgb(hue[:, 1], *_LIGHT)
    dark_paper = uniforms[:, 2:] < 0.5
    return np.where(dark_paper, dark, light), np.where(dark_paper, light, dark)


def _rgb(hue: NDArray[np.float64], saturation: float, value: float) -> NDArray[np.float64]:
    """Return (n, 3) RGB in 0..1 of hues in [0, 1)."""
    # Each primary fades out over a sixth of the circle, between a third and a half away from it.
    sixths = (6 * hue[:, None] + np.array([5.0, 3.0, 1.0])) % 6
    return value * (1 - saturation * np.clip(np.minimum(sixths, 4 - sixths), 0, 1))


def _ink(
    gray: NDArray[np.float64], corners: NDArray[np.float64], settings: Digits
) -> NDArray[np.float64]:
    """Return (n, size, size) coverage in 0..1 of digits placed with their top left at `corners`."""
    rows, columns = (_bicubic(corners[:, axis], settings) for axis in (0, 1))
    coverage = rows @ gray @ columns.transpose(0, 2, 1)
    low, high = _INK_EDGES
    t = np.clip((coverage - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _bicubic(offsets: NDArray[np.float64], settings: Digits) -> NDArray[np.float64]:
    """Return (n, size, 8) weights that put 8 samples, upscaled, at `offsets` among `size` pixels.

    Keys's cubic convolution with a = -1/2; outside its 8x8 pixels a digit is blank.
    """
    pixels = np.arange(settings.image_size) + 0.5
    places = (pixels - offsets[:, None]) * (_GLYPH_SIDE / settings.digit_size) - 0.5
    x = np.abs(places[:, :, None] - np.arange(_GLYPH_SIDE))
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
