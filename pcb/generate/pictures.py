"""`pcb generate`: images of some classes as PNG files, a grid of them, and their animation."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcb.errors import UserError
from pcb.generate.grid import Row, gif, grid, png
from pcb.generate.model import ImageModel, indices_of
from pcb.generate.options import Options
from pcb.runtime.atomic import disk_errors_explained, write_atomic
from pcb.runtime.progress import Progress

GRID = "grid.png"
_SMALL = 64
"""Pixels per side up to which several images of each class are made unless told otherwise."""
_EXAMPLES = (207, 360, 387, 974, 88, 979, 417, 279)
"""Of ImageNet's classes: golden retriever, otter, lesser panda, geyser, macaw, valley, balloon,
Arctic fox."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which images to make."""

    labels: NDArray[np.int64]
    """(N,) classes, those of one class together."""
    images: NDArray[np.int64]
    """(N,) indices."""
    per_class: int


def wanted(model: ImageModel, classes: Sequence[str], count: int | None) -> Wanted:
    """Return the images of each class in turn; without classes, of those worth seeing first.

    Raises UserError for a class that there is not, and for a count below 1.
    """
    if count is not None and count < 1:
        raise UserError(f"count {count}: expected at least 1 image of each class")
    own = count or (4 if model.image_size <= _SMALL else 1)
    chosen = model.labels(classes or _default_classes(model.num_classes))
    labels = np.repeat(chosen, own)
    return Wanted(labels=labels, images=indices_of(labels, model.num_classes), per_class=own)


def make_pictures(
    model: ImageModel,
    chosen: Wanted,
    configs: Sequence[Options],
    folder: Path,
    *,
    animate: bool = False,
) -> list[Path]:
    """Write an image per file, the grid, and with `animate` a GIF for each sampling config.

    Images stand in a folder for each config; return the paths of grid and GIFs. Everything that
    can be refused is, before anything is sampled. Raises UserError.
    """
    titles = [_title(model, options) for options in configs]
    check_writable(folder)
    rows, written = [], [folder / GRID]
    for title, options in zip(titles, configs, strict=True):
        own = folder / _slug(title)
        codes = _sampled(model, chosen, options, title)
        images = model.decode(codes)
        rows.append((title, images))
        for image, index, label in zip(images, chosen.images, chosen.labels, strict=True):
            name = f"{index:06d}-{_slug(class_name(model, label))}.png"
            write_atomic(own / name, png(Image.fromarray(image)))
        if animate:
            frames = model.frames(codes, options, images=chosen.images)
            written.append(folder / f"{own.name}.gif")
            write_atomic(written[-1], gif(_animation(model, chosen, title, frames)))
    write_atomic(folder / GRID, png(_grid(model, chosen, rows)))
    return written


def _sampled(model: ImageModel, chosen: Wanted, options: Options, title: str) -> NDArray[np.uint16]:
    """Return the codes of all images; steps are counted over all batches of them."""
    steps = model.steps(options) * -(-len(chosen.labels) // model.batch)
    task = f"generate: {model.name}, {len(chosen.labels)} images at {title}"
    with Progress(task, "model calls", steps) as progress:
        return model.codes(chosen.labels, options, images=chosen.images, advance=progress.advance)


def _title(model: ImageModel, options: Options) -> str:
    """Return what a config is called: `17 steps, cfg 1.5`. Raises UserError as `steps`."""
    guided = f", cfg {options.guidance:g}" if options.guidance else ""
    return f"{model.steps(options)} steps{guided}"


def class_name(model: ImageModel, label: int) -> str:
    """Return what a class is called in labels and files."""
    return f"class {label}" if model.class_names is None else model.class_names[label]


def check_writable(folder: Path) -> None:
    """Make a folder, or raise UserError if nothing can be written there."""
    with disk_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _default_classes(num_classes: int) -> list[int]:
    if num_classes > max(_EXAMPLES):
        return list(_EXAMPLES)
    return list(range(min(num_classes, 10)))


def _grid(
    model: ImageModel, chosen: Wanted, rows: Sequence[tuple[str, NDArray[np.uint8]]]
) -> Image.Image:
    """Lay out a row per sampling config under the classes; of one config, a row per class."""
    names = [class_name(model, label) for label in chosen.labels]
    if len(rows) > 1:
        shown = [Row(label=name, images=images) for name, images in rows]
        return grid(shown, names, model.name)
    (title, images), each = rows[0], chosen.per_class
    starts = range(0, len(names), each)
    shown = [Row(label=names[k], images=images[k : k + each]) for k in starts]
    return grid(shown, title=f"{model.name}, {title}")


def _animation(
    model: ImageModel, chosen: Wanted, title: str, frames: NDArray[np.uint8]
) -> list[Image.Image]:
    """Lay out the grid of one sampling config after every step."""
    return [
        _grid(model, chosen, [(f"{title}, after {k + 1}/{len(frames)}", images)])
        for k, images in enumerate(frames)
    ]


def _slug(text: str) -> str:
    """Return a text as part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
