"""The list of a report's picture grids: samples, images step by step, reconstructions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from pcb.report.commands import generate_commands
from pcb.report.evidence import Evidence
from pcb.report.figures import compared
from pcb.report.page import GridView, StripView
from pcb.report.pictures import decode_images, sampling_frames
from pcb.report.rows import Row
from pcb.report.strips import GAP, animation, data_uri, sheet, strip
from pcb.runtime.device import pick_device
from pcb.tokenizer.load import load_tokenizer
from pcb.tokenizer.vq import Tokenizer

_SMALL = 64
"""Pixels per side up to which images are decoded in no time; ImageNet's take seconds on a CPU."""
_PER_STRIP = 10
Pictures = NDArray[np.uint8]
"""uint8 (n, 3, H, W)."""


class _MadeBy(TypedDict):
    """Fields of a grid whose columns are images of sample sets."""

    columns: tuple[str, ...]
    commands: tuple[str, ...]
    classes: int


def images_shown(image_size: int) -> tuple[int, int]:
    """Return how many images of a config are shown, and how many while they are sampled."""
    return (20, 4) if image_size <= _SMALL else (8, 2)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows of pictures with their labels, where they stand and what they say."""

    name: str
    section: str
    title: str
    caption: str
    rows: tuple[tuple[str, Pictures], ...]
    columns: tuple[str, ...]
    """What the pictures of every row show, in their order."""
    commands: tuple[str, ...] = ()
    """What makes the pictures again."""
    classes: int = 0
    """Number of classes, where a column is an image and its class goes round; 0 elsewhere."""
    per_strip: int = _PER_STRIP
    """Pictures that stay together where a row is broken."""
    frames: NDArray[np.uint8] | None = None
    """(steps, n, 3, H, W) of an animation that stands below the rows."""

    def view(self) -> GridView:
        """Return the grid as the page shows it."""
        strips = tuple(self._strip(label, pictures) for label, pictures in self.rows)
        gif = self.gif()
        if gif is not None:
            described = f"{self.title}, animated"
            images = (data_uri(gif, "gif"),)
            strips += (StripView(label="animated", description=described, images=images),)
        return GridView(
            name=self.name,
            section=self.section,
            title=self.title,
            caption=self.caption,
            strips=strips,
            columns=self.columns,
            per_strip=self.per_strip,
            gap=GAP,
            commands=self.commands,
            classes=self.classes,
        )

    def png(self) -> bytes:
        """Return the grid as one picture without labels."""
        return sheet([pictures for _, pictures in self.rows])

    def gif(self) -> bytes | None:
        """Return the animation, None if there is none."""
        return None if self.frames is None else animation(self.frames)

    def _strip(self, label: str, pictures: Pictures) -> StripView:
        cuts = range(0, len(pictures), self.per_strip)
        images = tuple(data_uri(strip(pictures[k : k + self.per_strip])) for k in cuts)
        description = f"{self.title}, {label}: {len(pictures)} pictures"
        return StripView(label=label, description=description, images=images, has_columns=True)


def picture_grids(evidence: Evidence, rows: Sequence[Row]) -> Iterator[Grid]:
    """Yield every grid for which the files are here."""
    yield from _reconstructions(evidence)
    path = evidence.file("tokenizer", "tokenizer.safetensors")
    if path is None:
        return
    preset = evidence.preset
    tokenizer = load_tokenizer(path.parent, preset.tokenizer.autoencoder)
    tokenizer = tokenizer.to(pick_device(preset.compute))
    count, stepwise = images_shown(preset.data.image_size)
    pictures = _pictures(evidence, rows, tokenizer, count)
    yield from _overview(evidence, rows, pictures)
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.variant in pictures and row.model == model]
        if own:
            yield Grid(
                name=f"samples-{model}",
                section="samples",
                title=f"{model}, scales {' '.join(map(str, own[0].schedule.sizes))}",
                caption="A row per sampling config.",
                rows=tuple((_label(row), pictures[row.variant]) for row in sorted(own, key=_place)),
                **_made_by(evidence, sorted(own, key=_place), len(pictures[own[0].variant])),
            )
    for row in compared(rows, evidence.preset.claims.compare_steps):
        codes = evidence.codes(row, stepwise)
        if codes is not None:
            order = preset.models[row.model].model.order
            frames = np.stack(sampling_frames(tokenizer, codes, row.schedule, order))
            yield _while_sampled(evidence, row, frames)


def _pictures(
    evidence: Evidence, rows: Sequence[Row], tokenizer: Tokenizer, count: int
) -> dict[str, Pictures]:
    """Decode the first `count` images of every row that was sampled: variant -> pictures."""
    codes = {row.variant: evidence.codes(row, count) for row in rows}
    return {
        row.variant: decode_images(tokenizer, own, row.schedule.sizes)
        for row in rows
        for own in [codes[row.variant]]
        if own is not None
    }


def _overview(
    evidence: Evidence, rows: Sequence[Row], pictures: dict[str, Pictures]
) -> Iterator[Grid]:
    """Yield a few images per model: one block per scale, the compared step count, and guided."""
    steps = evidence.preset.claims.compare_steps
    shown = [
        row
        for row in sorted(rows, key=_place)
        if row.variant in pictures and ((row.one_block and not row.guided) or row.steps == steps)
    ]
    shown = sorted(shown, key=lambda row: [r.model for r in rows].index(row.model))
    if shown:
        count = min(_PER_STRIP, len(pictures[shown[0].variant]))
        yield Grid(
            name="samples",
            section="overview",
            title="Samples",
            caption=f"The same {count} images with one block per scale, at {steps} steps, and "
            "guided.",
            rows=tuple(
                (f"{r.model}, {_label(r)}", pictures[r.variant][:_PER_STRIP]) for r in shown
            ),
            **_made_by(evidence, shown, count),
        )


def _made_by(evidence: Evidence, rows: Sequence[Row], images: int) -> _MadeBy:
    """Return what a grid of the first images of these rows says of its columns."""
    classes, names = evidence.preset.data.num_classes, evidence.class_names()
    labels = [image % classes for image in range(images)]
    named = [f" ({names[label]})" if names else "" for label in labels]
    return _MadeBy(
        columns=tuple(
            f"image {i}, class {label}{name}"
            for i, (label, name) in enumerate(zip(labels, named, strict=True))
        ),
        commands=generate_commands(evidence.pipeline.name, evidence.preset, rows, images),
        classes=classes,
    )


def _while_sampled(evidence: Evidence, row: Row, frames: NDArray[np.uint8]) -> Grid:
    """Return the grid of images after every step, from frames (steps, n, 3, H, W)."""
    name, preset, images = evidence.pipeline.name, evidence.preset, frames.shape[1]
    return Grid(
        name=f"drawing-{row.model}",
        section="order",
        title=f"{row.model}: {frames.shape[1]} images while they are sampled",
        caption=f"After each of the {row.steps} steps, left to right. Cells not sampled yet "
        "show the scale before, upsampled.",
        rows=tuple((f"image {i}", frames[:, i]) for i in range(frames.shape[1])),
        columns=tuple(f"after step {k + 1} of {row.steps}" for k in range(len(frames))),
        commands=generate_commands(name, preset, [row], images, animate=True),
        per_strip=len(frames),
        frames=frames,
    )


def _reconstructions(evidence: Evidence) -> Iterator[Grid]:
    path = evidence.file("tokenizer", "reconstructions.npy")
    if path is not None:
        pictures = np.load(path)
        labels = ["original", "decoded"]
        if len(pictures) > len(labels):
            labels = ["original", "LlamaGen's own codes", "new codes"]
        yield Grid(
            name="reconstructions",
            section="tokenizer",
            title="Reconstructions",
            caption="Held-out images, and what the tokenizer makes of them at the finest scale.",
            rows=tuple(zip(labels, pictures, strict=True)),
            columns=tuple(f"held-out image {i}" for i in range(pictures.shape[1])),
            per_strip=8,
        )


def _place(row: Row) -> tuple[bool, int]:
    """Sort rows of a grid by steps, guided ones last."""
    return row.guided, row.steps


def _label(row: Row) -> str:
    return f"{row.steps} steps" + (f", cfg {row.cfg:g}" if row.guided else "")
