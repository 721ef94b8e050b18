"""Small trees of the form of ImageNet, with real files of natural-looking images."""

import csv
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.io import savemat

from pcb.config import Preset
from pcb.config.loader import load_params, parse_preset
from tests.tasks import ROOT

SIZES = ((500, 375), (333, 500), (281, 281), (240, 320), (600, 570), (64, 48))
"""Widths and heights in turn; 281 is the side that ImageNet's images are brought to."""
READABLE = ("cmyk", "exif", "gray", "padded", "png")
BROKEN = ("empty", "text", "truncated")
TINY = {
    "tokenizer": {
        "source": "train",
        "requantization": None,
        "training": {"iterations": 1},
        "autoencoder": {
            "channels": 4,
            "channel_multipliers": [1, 1, 1, 1, 1],
            "residual_blocks": 1,
            "latent_channels": 4,
            "codebook_size": 64,
            "norm_groups": 1,
        },
    },
    "model": {"width": 32, "heads": 2, "hidden": 32},
}
"""Settings of networks that take milliseconds, at 16 pixels per token."""
TURNED = 6
"""EXIF orientation of a picture to be turned by a quarter, which training leaves as it is."""


@dataclass(frozen=True)
class Tree:
    """What was written: paths (`wnid/name`) in the order of the index, in both layouts."""

    images: tuple[str, ...]
    labels: tuple[int, ...]
    refused: tuple[str, ...]


def wnid(label: int) -> str:
    """Return the name of a class: sorted names count up with labels."""
    return f"n{1440764 + 2779 * label:08d}"


def natural_image(seed: int, size: tuple[int, int]) -> Image.Image:
    """Return an image of smooth color with some detail: width and height as given."""
    random = np.random.default_rng(seed)
    width, height = size
    pixels = np.zeros((height, width, 3))
    for cells, weight in ((4, 0.7), (24, 0.3)):
        grid = random.integers(256, size=(cells, cells, 3)).astype(np.uint8)
        smooth = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        pixels += weight * np.asarray(smooth)
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **settings: object) -> bytes:
    """Return an image as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **settings)
    return file.getvalue()


def odd_file(kind: str, seed: int = 0) -> bytes:
    """Return a file of a kind that occurs in ImageNet (`READABLE`), or of one that is `BROKEN`."""
    image = natural_image(seed, SIZES[seed % len(SIZES)])
    exif = Image.Exif()
    exif[0x0112] = TURNED
    png = io.BytesIO()
    image.save(png, "PNG")
    return {
        "cmyk": jpeg(image.convert("CMYK")),
        "exif": jpeg(image, exif=exif),
        "gray": jpeg(image.convert("L")),
        "padded": jpeg(image) + b"\0more",
        "png": png.getvalue(),
        "empty": b"",
        "text": b"<html>404</html>",
        "truncated": jpeg(image)[:-200],
    }[kind]


def write_tree(
    folder: Path,
    classes: int = 3,
    per_class: int = 4,
    *,
    oddities: bool = True,
    layout: Literal["folders", "tars"] = "folders",
) -> Tree:
    """Write training images; with `oddities`, one odd file of each kind on top, in all classes.

    `folders`: a folder per class; `tars`: a tar per class, as ImageNet's tar of training images
    holds.
    """
    files = dict(_files(classes, per_class, oddities))
    folder.mkdir(parents=True, exist_ok=True)
    for label in range(classes):
        own = {name: data for name, data in files.items() if name.startswith(wnid(label))}
        if layout == "tars":
            # Members stand in no order.
            _write_tar(folder / f"{wnid(label)}.tar", dict(reversed(own.items())))
            continue
        (folder / wnid(label)).mkdir()
        for name, data in own.items():
            (folder / name).write_bytes(data)
    broken = {name for name in files if any(f"_{kind}." in name for kind in BROKEN)}
    images = sorted(files.keys() - broken)
    return Tree(
        images=tuple(images),
        labels=tuple(_label(name, classes) for name in images),
        refused=tuple(sorted(broken)),
    )


def write_validation(
    folder: Path,
    classes: int = 3,
    per_class: int = 2,
    *,
    layout: Literal["folders", "devkit", "kaggle", "text"] = "folders",
) -> Tree:
    """Write validation images, in a folder per class, or in one folder with what says the classes.

    `devkit`: ground truth and meta.mat of the development kit; `kaggle`: LOC_val_solution.csv;
    `text`: val.txt of names and labels.
    """
    count = classes * per_class
    # Classes come in no order.
    labels = [int(k) for k in np.random.default_rng(0).permutation(np.arange(count) % classes)]
    names = [f"ILSVRC2012_val_{k + 1:08d}.JPEG" for k in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, (name, label) in enumerate(zip(names, labels, strict=True)):
        paths.append(f"{wnid(label)}/{name}" if layout == "folders" else name)
        (folder / paths[-1]).parent.mkdir(exist_ok=True)
        (folder / paths[-1]).write_bytes(jpeg(natural_image(1000 + k, SIZES[k % len(SIZES)])))
    if layout == "devkit":
        _write_devkit(folder, labels, classes)
    elif layout == "kaggle":
        with (folder / "LOC_val_solution.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["ImageId", "PredictionString"])
            # The rows of that file come in no order.
            for name, label in reversed(list(zip(names, labels, strict=True))):
                rows.writerow([name.removesuffix(".JPEG"), f"{wnid(label)} 85 1 499 272 "])
    elif layout == "text":
        lines = [f"{name} {label}\n" for name, label in zip(names, labels, strict=True)]
        (folder / "val.txt").write_text("".join(lines))
    found = sorted(zip(paths, labels, strict=True))
    return Tree(
        images=tuple(path for path, _ in found),
        labels=tuple(label for _, label in found),
        refused=(),
    )


def imagenet_preset(
    train: Path,
    validation: Path | None = None,
    *,
    settings: Mapping[str, object] | None = None,
    **data: object,
) -> Preset:
    """Return the preset `paper-smoke` on these trees, with other settings of `data` and beside it.

    Without validation images there is no likelihood. `TINY` as `settings` makes stages quick that
    run its networks.
    """
    params = load_params(ROOT / "params.yaml")
    files = {"imagenet": str(train), "imagenet_validation": validation and str(validation)}
    own = {"extends": "paper-smoke", "data": data, "compute": {"device": "cpu", "threads": 1}}
    if validation is None:
        own["likelihood"] = None
    changed = {"extends": "tests-base", **(settings or {})}
    presets = {**params["presets"], "tests-base": own, "tests": changed}
    return parse_preset({"presets": presets, "files": files}, "tests")


def _files(classes: int, per_class: int, oddities: bool) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every training image."""
    for label in range(classes):
        for k in range(per_class):
            seed = label * per_class + k
            data = jpeg(natural_image(seed, SIZES[seed % len(SIZES)]))
            yield f"{wnid(label)}/{wnid(label)}_{k}.JPEG", data
    for k, kind in enumerate((*READABLE, *BROKEN) if oddities else ()):
        name = wnid(k % classes)
        yield f"{name}/{name}_{kind}.JPEG", odd_file(kind, seed=k)


def _label(name: str, classes: int) -> int:
    return [wnid(label) for label in range(classes)].index(name.split("/")[0])


def _write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name.split("/")[1])
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _write_devkit(folder: Path, labels: list[int], classes: int) -> None:
    """Write the kit's two files: its class numbers count from 1, and not in the order of names."""
    numbers = [classes - label for label in range(classes)]
    truth = "".join(f"{numbers[label]}\n" for label in labels)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    # Leaves of the hierarchy come first; inner nodes follow, which no image belongs to.
    kind = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("num_children", "f8")]
    leaves = sorted((number, wnid(label), 0) for label, number in enumerate(numbers))
    rows = [*leaves, (classes + 1, "n00001740", 2)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kind).reshape(-1, 1)})
