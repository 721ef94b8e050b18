"""`pcb export`: a finished sample set as ADM's .npz or as PNG files, for any other evaluator.

Pixels are those that the stage `metrics` scores. Shard by shard, so that memory stays bounded and
an interrupted export resumes.
"""

import json
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from pcb.data.arrays import map_array, save_array
from pcb.errors import UserError
from pcb.generate.grid import png
from pcb.metrics.image_files import IMAGES
from pcb.metrics.parts import Part
from pcb.pipeline.integrity import damaged_files, explain_damage
from pcb.pipeline.manifest import COMPLETE, Manifest, read_manifest
from pcb.pipeline.task import Task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import atomic, write_atomic
from pcb.runtime.device import compute_exactly, pick_device
from pcb.runtime.progress import Progress
from pcb.stages.metrics import decoding, feature_parts, sample_shards
from pcb.train.image_batches import counted

RECORD = "export.json"
"""Says in a folder of PNG files which sample set they are."""
_CHUNK = 1 << 24
"""Bytes copied at a time."""


class SampleSet:
    """A finished sample set: checked codes, and its images shard by shard."""

    def __init__(self, pipeline: Pipeline, variant: str) -> None:
        """`variant`: MODEL/CONFIG. Raises UserError unless it is finished and undamaged."""
        self.task = pipeline.task("sample", variant)
        self.manifest = _intact(self.task)
        preset, model = pipeline.preset, str(self.task.model)
        # Another system's tokenizer stands beside its weights.
        other = model in preset.systems
        made = pipeline.task("train", model) if other else pipeline.task("tokenizer")
        _intact(made)
        self.device = pick_device(pipeline.preset.compute)
        shards = sample_shards(self.task.artifact, pipeline.preset.sampling.images)
        # The folder would hold features, which are not made here.
        decode = decoding(preset, model, made.artifact, self.device)
        self._parts = feature_parts(decode, shards, preset.compute.feature_batch, Path())
        side = pipeline.preset.data.image_size
        self.shape = (pipeline.preset.sampling.images, side, side, 3)

    @property
    def record(self) -> dict[str, str | int]:
        """What says which images these are."""
        return {
            "preset": self.task.preset,
            "samples": self.task.variant,
            "images": self.shape[0],
            "content": self.manifest.content,
        }

    def shards(self) -> Iterator[tuple[int, int, Part]]:
        """Yield first image, image after the last, and part, of every shard."""
        start = 0
        for part in self._parts:
            yield start, start + part.images, part
            start += part.images

    def batches(self, part: Part) -> Iterator[NDArray[np.uint8]]:
        """Yield a shard's images, uint8 (B, H, W, 3)."""
        compute_exactly(self.device, 1)
        with torch.inference_mode():
            for pixels_B3HW in part.batches():
                yield pixels_B3HW.permute(0, 2, 3, 1).contiguous().numpy(force=True)


def export_npz(samples: SampleSet, path: Path) -> None:
    """Write all images as `arr_0`, uint8 (n, H, W, 3), in their order.

    Until the file is whole, its shards lie beside it, so that it takes twice its size. Raises
    UserError if something else stands there.
    """
    record = json.dumps(samples.record).encode()
    if path.exists():
        if not path.is_file() or _comment(path) != record:
            raise UserError(f"{path}: holds something else; delete it, or name another file")
        print(f"export: {path} is already complete", flush=True)
        return
    folder = path.with_name(f".{path.name}.{samples.manifest.content}.parts")
    paths = []
    with Progress("export", "images", samples.shape[0]) as progress:
        for start, stop, part in samples.shards():
            paths.append(folder / f"{start:08d}.npy")
            if paths[-1].exists():
                progress.skip(stop - start)
                continue
            images = np.concatenate(list(counted(samples.batches(part), progress)))
            save_array(paths[-1], images)
    with (
        atomic(path) as hidden,
        zipfile.ZipFile(hidden, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.comment = record
        with archive.open(zipfile.ZipInfo(f"{IMAGES}.npy"), "w", force_zip64=True) as member:
            _write_header(member, samples.shape)
            for shard in paths:
                images = map_array(shard, "sample")
                for first in range(0, len(images), _rows_at_a_time(images)):
                    member.write(images[first : first + _rows_at_a_time(images)].tobytes())
    shutil.rmtree(folder)


def export_png(samples: SampleSet, folder: Path) -> None:
    """Write each image as a file of its number: 000000.png, 000001.png and so on.

    Raises UserError if the folder holds something else.
    """
    record = folder / RECORD
    text = json.dumps(samples.record, indent=1) + "\n"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is no folder; name another one")
    if folder.exists() and any(folder.iterdir()) and _text(record) != text:
        raise UserError(f"{folder}: holds something else; empty it, or name another folder")
    write_atomic(record, text)
    with Progress("export", "images", samples.shape[0]) as progress, ThreadPoolExecutor() as pool:
        for start, stop, part in samples.shards():
            paths = [folder / f"{i:06d}.png" for i in range(start, stop)]
            if all(path.exists() for path in paths):
                progress.skip(len(paths))
                continue
            left = iter(paths)
            for images in counted(samples.batches(part), progress):
                own = [next(left) for _ in images]
                list(pool.map(_write_png, own, images))


def _intact(task: Task) -> Manifest:
    """Return the manifest of a finished task whose files are as it says, or raise UserError."""
    manifest = read_manifest(task.artifact / COMPLETE)
    if manifest is None:
        raise UserError(f"{task.name}: is not finished here; `{task.command}` makes it")
    if manifest.key != task.key:
        raise UserError(
            f"{task.artifact}: was made with other settings than those now; `{task.command}` makes "
            "it again"
        )
    for path, damage in damaged_files(task, manifest.files):
        raise UserError(explain_damage(task, path, damage, "export"))
    return manifest


def _comment(path: Path) -> bytes:
    """Return what an .npz says of itself, nothing where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment
    except zipfile.BadZipFile:
        return b""


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _write_header(member: IO[bytes], shape: tuple[int, ...]) -> None:
    """Write an array's header, as `np.save` does."""
    header = {"descr": npy.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False}
    npy.write_array_header_1_0(member, header | {"shape": shape})


def _rows_at_a_time(images: NDArray[np.uint8]) -> int:
    return max(1, _CHUNK // int(images[0].nbytes))


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    write_atomic(path, png(Image.fromarray(image)))
