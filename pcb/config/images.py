"""Settings of the images (method section 3)."""

from typing import Annotated

from msgspec import Meta

from pcb.config.base import Count, Fraction, Positive, Settings

TEN_CROPS = 10
"""ImageNet's crops of a training image."""

PICTURES = (
    "brick",
    "grass",
    "gravel",
    "coins",
    "tissue",
    "stars",
    "temple",
    "flower",
    "cat",
    "motorcycle",
)
"""Names of the classes of photographs, by label."""

DIGITS_PER_CLASS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
"""scikit-learn's digits, 0 to 9."""


def held_out_of(count: int, fraction: float) -> int:
    """Return how many images of a class are held out: at least one, and at least one is not."""
    return min(max(round(fraction * count), 1), count - 1)


class Digits(
    Settings, tag="digits", tag_field="kind", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """scikit-learn's handwritten digits (1,797 of 8x8, 10 classes), colored and placed on RGB."""

    image_size: Positive = 32
    digit_size: Positive = 22
    """Side in pixels of the upscaled digit, before it is placed."""
    place_step: Positive = 1
    """Pixels between the places where a digit may stand; at the tokenizer's stride, a digit gives
    the same tokens wherever it stands."""
    hues: Positive = 6
    """Hues, evenly spaced, of the dark and of the light color; each image has one of both."""
    held_out: Annotated[float, Meta(gt=0, lt=1)] = 0.25
    """Fraction of the digit images, of each class, that no model sees."""
    renderings: Positive = 16
    """Colored placements of each training digit; they play the part of ImageNet's ten crops."""
    reference_images: Positive = 2000
    """Renderings of held-out digits that metrics compare with."""
    seed: Count = 0

    @property
    def num_classes(self) -> int:
        """Number of classes, labels 0 to num_classes - 1."""
        return 10

    @property
    def crops(self) -> int:
        """Crops of a training image."""
        return self.renderings

    @property
    def held_out_digits(self) -> int:
        """Different digits that no model sees: the reference images show each of them in turn."""
        return sum(held_out_of(count, self.held_out) for count in DIGITS_PER_CLASS)


class Photographs(
    Settings,
    tag="photographs",
    tag_field="kind",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """Crops of pictures that come with scikit-image and scikit-learn, a class for each picture."""

    image_size: Positive = 32
    tile: Positive = 120
    """Side in pixels of the tiles that a picture is cut into; a crop lies in one of them."""
    shrink: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (1, 2, 3)
    """By how much a tile may be made smaller before it is cropped."""
    held_out_every: Annotated[int, Meta(ge=2)] = 3
    """Every so many diagonals of tiles, one is held out: no model sees it."""
    images: Positive = 1350
    """Training images; the classes take turns."""
    crops: Positive = 16
    """Crops of each training image, of any tile of its class, of which training draws one."""
    reference_images: Positive = 2000
    """Crops of held-out tiles that metrics compare with."""
    seed: Count = 0

    def __post_init__(self) -> None:
        wrong = [factor for factor in self.shrink if self.tile % factor]
        if wrong:
            raise ValueError(f"tile {self.tile} must be a multiple of shrink {wrong[0]}")
        if self.tile // max(self.shrink) < self.image_size:
            raise ValueError(
                f"tile {self.tile}, made smaller by {max(self.shrink)}, has no room for a crop of "
                f"{self.image_size}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, labels 0 to num_classes - 1."""
        return len(PICTURES)


class ImageNet(
    Settings,
    tag="imagenet",
    tag_field="kind",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """ILSVRC 2012, or any tree of its form: an index of files, the pixels stay where they are."""

    image_size: Positive = 256
    num_classes: Positive = 1000
    """Classes, labels 0 to num_classes - 1 in the order of the sorted folder names."""
    train_images: Positive | None = None
    """Training images that must be found; None takes what there is."""
    validation_images: Positive | None = None
    """Validation images that must be found where `files.imagenet_validation` names a folder."""
    crop_factor: Annotated[float, Meta(ge=1)] = 1.1
    """The shorter side is brought to int(crop_factor * image_size) before ten crops are cut."""
    refused_fraction: Fraction = 0.0001
    """Fraction of the images that may be unreadable; they are listed and left out."""

    @property
    def side(self) -> int:
        """Side in pixels of the square that ten crops are cut from."""
        return int(self.crop_factor * self.image_size)

    @property
    def crops(self) -> int:
        """Crops of a training image."""
        return TEN_CROPS


class ImageFolder(
    Settings, tag="folder", tag_field="kind", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Images of one's own, a sub-folder per class, read where they lie as ImageNet's are."""

    folder: str
    """From the project's root, or absolute. It enters the key as it stands here: another folder is
    another data set, and a link keeps the name of one that lies elsewhere."""
    num_classes: Positive
    """Sub-folders that must be found; labels 0 to num_classes - 1 in the order of their names."""
    image_size: Positive = 64
    crop_factor: Annotated[float, Meta(ge=1)] = 1.1
    """The shorter side is brought to int(crop_factor * image_size) before crops are cut."""
    mirrored: bool = True
    """Whether the five crops of an image - four corners, center - are also taken mirrored."""
    held_out: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    """Fraction of each class's images that no model sees; a folder `val` replaces it."""
    refused_fraction: Fraction = 0.01
    """Fraction of the images that may be unreadable; they are listed and left out."""

    @property
    def side(self) -> int:
        """Side in pixels of the square that crops are cut from."""
        return int(self.crop_factor * self.image_size)

    @property
    def crops(self) -> int:
        """Crops of a training image."""
        return TEN_CROPS if self.mirrored else TEN_CROPS // 2


Data = Digits | Photographs | ImageNet | ImageFolder
