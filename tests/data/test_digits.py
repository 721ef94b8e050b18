"""The miniature's images: split by digit, each a function of its own numbers alone."""

import colorsys

import numpy as np
import pytest

from pcb.config import Digits
from pcb.config.images import DIGITS_PER_CLASS
from pcb.data.digits import Glyphs, _colors, _rgb, load_glyphs, render, split_indices
from pcb.stages.data import reference_glyphs, train_images

SETTINGS = Digits()
LUMINANCE = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    return load_glyphs()


def test_digits_are_split_class_by_class(glyphs: Glyphs):
    split = split_indices(glyphs.labels, 0.25, seed=0)
    assert sorted(np.concatenate(list(split.values()))) == list(range(1797))
    fractions = np.bincount(glyphs.labels[split["held_out"]]) / np.bincount(glyphs.labels)
    np.testing.assert_allclose(fractions, 0.25, atol=0.004)
    again = split_indices(glyphs.labels, 0.25, seed=0)
    np.testing.assert_array_equal(split["train"], again["train"])
    assert tuple(np.bincount(glyphs.labels)) == DIGITS_PER_CLASS
    for fraction in (0.001, 0.25, 0.9999):
        held_out = split_indices(glyphs.labels, fraction, seed=0)["held_out"]
        assert len(held_out) == Digits(held_out=fraction).held_out_digits
    other = split_indices(glyphs.labels, 0.25, seed=1)
    assert not np.array_equal(split["train"], other["train"])


def test_every_class_keeps_digits_on_both_sides():
    labels = np.repeat(np.arange(3), 2)
    for fraction in (0.01, 0.99):
        split = split_indices(labels, fraction, seed=0)
        assert [sorted(labels[part]) for part in split.values()] == [[0, 1, 2], [0, 1, 2]]


def test_an_image_does_not_depend_on_the_others(glyphs: Glyphs):
    indices, renderings = np.array([5, 5, 9, 700]), np.array([0, 1, 3, 15])
    together = render(glyphs, indices, renderings, "train", SETTINGS)
    for i in (3, 0):
        one = slice(i, i + 1)
        alone = render(glyphs, indices[one], renderings[one], "train", SETTINGS)
        np.testing.assert_array_equal(alone[0], together[i])


def test_seed_split_digit_and_rendering_all_matter(glyphs: Glyphs):
    def image(digit: int, rendering: int, split: str = "train", seed: int = 0) -> bytes:
        one = (np.array([digit]), np.array([rendering]))
        return render(glyphs, *one, split, Digits(seed=seed)).tobytes()

    images = {image(0, 0), image(1, 0), image(0, 1), image(0, 0, "held_out"), image(0, 0, seed=1)}
    assert len(images) == 5


def test_a_digit_stands_out_and_lies_inside(glyphs: Glyphs):
    n = 300
    images = render(glyphs, np.arange(n), np.zeros(n, dtype=np.int64), "train", SETTINGS)
    assert (images.shape, images.dtype) == ((n, 3, 32, 32), np.uint8)
    light = np.tensordot(LUMINANCE, images / 255, (0, 1))
    spread = light.max((1, 2)) - light.min((1, 2))
    assert spread.min() > 0.2
    assert np.median(spread) > 0.5
    # Nearly every pixel has one of the two colors: strokes are crisp.
    t = (light - light.min((1, 2), keepdims=True)) / spread[:, None, None]
    assert ((t < 0.1) | (t > 0.9)).mean() > 0.85


def test_a_digit_is_placed_all_over_the_image():
    full = Glyphs(gray=np.ones((1, 8, 8)), labels=np.zeros(1, dtype=np.int64))
    n = 400
    images = render(full, np.zeros(n, dtype=np.int64), np.arange(n), "train", SETTINGS)
    corner = images[:, :, 16:17, 16:17].astype(int)
    rows = (np.abs(images - corner).sum(1) == 0).any(2).argmax(1)
    assert set(rows) >= set(range(1, 10))


def test_a_digit_stands_on_the_places_that_are_set():
    """A dot in the middle of each glyph shows where the glyph was placed."""
    gray = np.zeros((400, 8, 8))
    gray[:, 3:5, 3:5] = 1
    glyphs = Glyphs(gray=gray, labels=np.zeros(400, dtype=np.int64))
    settings = Digits(digit_size=24, place_step=4)
    images = render(glyphs, np.arange(400), np.zeros(400, dtype=np.int64), "train", settings)
    ink = (images != images[:, :, -1:, -1:]).any(1)
    found = {(int(rows.min()), int(columns.min())) for rows, columns in map(np.nonzero, ink)}
    first = min(found)
    offsets = {(y - first[0], x - first[1]) for y, x in found}
    assert offsets == {(y, x) for y in (0, 4, 8) for x in (0, 4, 8)}


def test_blank_paper_is_one_color():
    blank = Glyphs(gray=np.zeros((1, 8, 8)), labels=np.zeros(1, dtype=np.int64))
    image = render(
        blank, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), "train", SETTINGS
    )
    assert (image == image[:, :, :1, :1]).all()


def test_colors_are_those_of_hue_saturation_and_value():
    for hue, saturation, value in np.random.default_rng(0).random((200, 3)).tolist():
        expected = [colorsys.hsv_to_rgb(hue, saturation, value)]
        found = _rgb(np.array([hue]), saturation, value)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_colors_are_one_dark_and_one_light_of_the_hues_that_are_set():
    paper, pen = _colors(np.random.default_rng(0).random((500, 3)), hues=4)
    assert len(np.unique(paper.round(6), axis=0)) == 8
    assert len(np.unique(np.hstack([paper, pen]).round(6), axis=0)) == 2 * 4 * 4
    luminance = np.abs((paper - pen) @ [0.299, 0.587, 0.114])
    assert luminance.min() > 0.35


def test_train_images_hold_each_rendering_of_each_digit(glyphs: Glyphs):
    few = glyphs.take(np.arange(7))
    settings = Digits(renderings=3)
    images = train_images(few, settings)
    assert images.shape == (7, 3, 3, 32, 32)
    expected = render(few, np.array([4]), np.array([2]), "train", settings)[0]
    np.testing.assert_array_equal(images[4, 2], expected)


def test_reference_images_are_balanced_and_never_repeat():
    labels = np.array([0, 1, 1, 0, 2, 0, 2, 1])
    digits, renderings = reference_glyphs(labels, 20)
    np.testing.assert_array_equal(labels[digits], np.arange(20) % 3)
    assert len(set(zip(digits.tolist(), renderings.tolist(), strict=True))) == 20
    # Every digit is shown once before one is shown twice.
    assert set(digits[renderings == 0]) == set(range(8))
