"""The index of images in files: each file is found, read once and entered.

Pixels stay where they are. A file's header and end are checked, and only what looks odd is decoded:
decoding everything would take hours. Finished chunks of the index survive an interruption.
"""

import csv
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pcb.config import Files, ImageNet
from pcb.data.crops import (
    UnreadableImageError,
    decode_rgb,
    ignore_metadata_warnings,
    open_image,
)
from pcb.data.images import TRAIN_INDEX, VALIDATION_INDEX
from pcb.data.index import COLUMNS, write_rows
from pcb.data.tree import (
    File,
    class_names,
    read_file,
    training_files,
    tree_root,
    validation_files,
)
from pcb.errors import UserError
from pcb.runtime.hashing import content_hash
from pcb.runtime.pool import in_order
from pcb.runtime.progress import Progress, ShowProgress

REFUSED = "refused.csv"
CHUNK = 4096
"""Files that are entered, or lost by an interruption, together."""
_CHUNKS = ".chunks"
_CHUNK_COLUMNS = (*COLUMNS, "reason")
_AHEAD = 16
"""Files per thread that are read before their turn."""
_END_OF_JPEG = b"\xff\xd9"
_SHOWN = 3

Row = tuple[str, ...]
"""The index's columns, and why the file is refused: nothing if it is not."""
Trees = Mapping[str, tuple[Path, Sequence[File]]]
"""Name of an index -> the folder below which its files lie, and the files."""


def survey(
    files: Files,
    settings: ImageNet,
    folder: Path,
    *,
    workers: int,
    progress: ShowProgress,
) -> dict[str, Any]:
    """Index ImageNet as `enter` does.

    Raises UserError if classes or images are not as many as the settings say, too.
    """
    with ThreadPoolExecutor(workers) as pool:
        trees = _find(files, settings, pool)
    counts = enter(
        trees,
        folder,
        refused_fraction=settings.refused_fraction,
        workers=workers,
        progress=progress,
    )
    return {"classes": settings.num_classes, **counts}


def enter(
    trees: Trees,
    folder: Path,
    *,
    refused_fraction: float,
    workers: int,
    progress: ShowProgress,
) -> dict[str, int]:
    """Write into `folder` the indices of training and validation images, and the refused ones.

    `progress("images", n)` returns a context manager that is told of n images. Returns how many
    images each index has, and how many were refused.

    Raises UserError if too many are refused.
    """
    ignore_metadata_warnings()
    chunks: dict[str, list[Path]] = {TRAIN_INDEX: [], VALIDATION_INDEX: []}
    with ThreadPoolExecutor(workers) as pool:
        totals = {name: len(files) for name, (_, files) in trees.items()}
        with progress("images", sum(totals.values())) as seen:
            for name, (root, found) in trees.items():
                for start in range(0, len(found), CHUNK):
                    part = found[start : start + CHUNK]
                    chunk = _chunk(folder, root, part)
                    chunks[name].append(chunk)
                    if chunk.exists():
                        seen.skip(len(part))
                        continue
                    rows = in_order(pool, partial(examine, root), part, _AHEAD * workers)
                    write_rows(chunk, _CHUNK_COLUMNS, _counted(rows, seen))
    refused = [(name, row) for name, parts in chunks.items() for row in _rows(parts) if row[-1]]
    _report_refused(folder, refused_fraction, refused, sum(totals.values()), chunks)
    for name, parts in chunks.items():
        write_rows(folder / name, COLUMNS, (row[:-1] for row in _rows(parts) if not row[-1]))
    left = {name: totals.get(name, 0) - sum(n == name for n, _ in refused) for name in chunks}
    return {
        "train_images": left[TRAIN_INDEX],
        "validation_images": left[VALIDATION_INDEX],
        "refused": len(refused),
    }


def examine(root: Path, file: File) -> Row:
    """Read a file and return its row."""
    data = read_file(root, file)
    width = height = 0
    reason = ""
    try:
        width, height = check_image(data)
    except UnreadableImageError as error:
        reason = str(error)
    numbers = (file.label, file.offset, len(data), zlib.crc32(data), width, height)
    return (file.path, *map(str, numbers), reason)


def check_image(data: bytes) -> tuple[int, int]:
    """Return an image's width and height. Raises UnreadableImageError if it cannot be decoded.

    A JPEG file of gray or RGB with a sound header and an end marker passes without being decoded.
    """
    image = open_image(data)
    plain = image.format == "JPEG" and image.mode in ("L", "RGB")
    if not (plain and data.endswith(_END_OF_JPEG)):
        decode_rgb(data)
    return image.size


def _find(files: Files, settings: ImageNet, pool: Executor) -> Trees:
    """Return the tree and the files of each index, counted."""
    root = tree_root(files.imagenet, "files.imagenet")
    classes = class_names(root)
    if len(classes) != settings.num_classes:
        raise UserError(
            f"{root}: {len(classes)} classes ({classes[0]} to {classes[-1]}) where "
            f"data.num_classes = {settings.num_classes}; files.imagenet must name the folder whose "
            f"sub-folders or tars are the classes"
        )
    train = training_files(root, classes, pool)
    _check_count(root, train, settings.train_images, "train_images")
    trees: dict[str, tuple[Path, Sequence[File]]] = {TRAIN_INDEX: (root, train)}
    if files.imagenet_validation is not None:
        root = tree_root(files.imagenet_validation, "files.imagenet_validation")
        held_out = validation_files(root, classes)
        _check_count(root, held_out, settings.validation_images, "validation_images")
        trees[VALIDATION_INDEX] = (root, held_out)
    return trees


def _check_count(root: Path, files: Sequence[File], expected: int | None, setting: str) -> None:
    if expected is not None and len(files) != expected:
        raise UserError(
            f"{root}: {len(files)} images where data.{setting} = {expected}; complete them, or set "
            f"it to the number that there are"
        )


def _chunk(folder: Path, root: Path, files: Sequence[File]) -> Path:
    """Return where the rows of these files, at this place, are kept until all are there."""
    known = [[file.path, file.label, file.offset, file.bytes] for file in files]
    return folder / _CHUNKS / f"{content_hash([str(root.resolve()), known])}.csv"


def _counted(rows: Iterable[Row], progress: Progress) -> Iterator[Row]:
    for row in rows:
        yield row
        progress.advance(1)


def _rows(chunks: Iterable[Path]) -> Iterator[Row]:
    """Yield the rows of chunks, read one chunk at a time."""
    for chunk in chunks:
        with chunk.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            yield from map(tuple, rows)


def _report_refused(
    folder: Path,
    refused_fraction: float,
    refused: Sequence[tuple[str, Row]],
    total: int,
    chunks: Mapping[str, Sequence[Path]],
) -> None:
    """Write the list of refused files. Raises UserError if they are too many."""
    path = folder / REFUSED
    rows = [(name, row[0], row[3], row[-1]) for name, row in refused]
    write_rows(path, ("index", "path", "bytes", "reason"), rows)
    if len(refused) <= refused_fraction * total:
        return
    # Whoever repairs the files wants them to be read again.
    for chunk in (chunk for parts in chunks.values() for chunk in parts):
        if any(row[-1] for row in _rows([chunk])):
            chunk.unlink()
    shown = ", ".join(f"{row[0]} ({row[-1]})" for _, row in refused[:_SHOWN])
    raise UserError(
        f"data: {len(refused)} of {total} images cannot be read, more than "
        f"data.refused_fraction = {refused_fraction:g}: {shown}"
        f"{', ...' if len(refused) > _SHOWN else ''}; all are listed in {path}; replace them, or "
        f"raise the fraction"
    )
