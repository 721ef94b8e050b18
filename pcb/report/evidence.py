"""Current manifests of a pipeline and the files beside them, as a report reads them.

A task whose manifest is missing, or was made from other settings, counts as not run. So does a
task whose files are not on this machine, where files are asked for.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcb.config import ImageFolder, ImageNet, Photographs, Sampling
from pcb.data.class_names import CLASSES, read_class_names
from pcb.data.images import class_by_class
from pcb.data.photographs import held_out_tiles
from pcb.pipeline.manifest import Manifest, read_manifest
from pcb.pipeline.task import Task
from pcb.pipeline.tasks import Pipeline
from pcb.report.likelihood import Nats, Places
from pcb.report.rows import Row, make_row
from pcb.report.system_rows import SystemRow, make_system_row


class Evidence:
    """The results of one preset that a report can be made from."""

    def __init__(self, pipeline: Pipeline, manifests: Mapping[str, Manifest]) -> None:
        """`manifests`: those that are current, by their tasks' names."""
        self.pipeline = pipeline
        self.preset = pipeline.preset
        self.tasks = results_of(pipeline)
        self._manifests = manifests
        self._nll: dict[str, NDArray[np.float64] | None] = {}
        self._places: dict[int, Places] = {}

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Evidence":
        """Read what manifests there are of a preset's tasks."""
        current = {
            task.name: manifest
            for task in results_of(pipeline)
            for manifest in [read_manifest(task.manifest)]
            if manifest is not None and manifest.key == task.key
        }
        return cls(pipeline, current)

    @property
    def comparable(self) -> bool:
        """Whether the preset measures what the paper does, so that published numbers may stand by.

        That is 50,000 images of ImageNet's classes at 256x256, by ADM's protocol.
        """
        preset = self.preset
        paper = ImageNet()
        return (
            isinstance(preset.data, ImageNet)
            and preset.data.num_classes == paper.num_classes
            and preset.data.image_size == paper.image_size
            and preset.metrics.extractor == "inception"
            and preset.sampling.images == Sampling().images
        )

    def sampled_on(self, variant: str) -> str:
        """Return on what a sample set was made, and in which batches; empty if it was not."""
        manifest = self.manifest(self.pipeline.task("sample", variant))
        if manifest is None:
            return ""
        machine = manifest.provenance.machine
        if manifest.results.get("device") == "cuda":
            on = machine.get("gpu", "GPU")
        else:
            on = f"{machine.get('cpu', 'CPU')}, 1 thread"
        return f"{on}, batch {manifest.results.get('batch', 'unknown')}"

    def manifest(self, task: Task) -> Manifest | None:
        """Return a task's manifest if it is current, else None."""
        return self._manifests.get(task.name)

    def results(self, stage: str, variant: str = "all") -> Mapping[str, Any] | None:
        """Return what a task measured, None if it was not run."""
        manifest = self.manifest(self.pipeline.task(stage, variant))
        return None if manifest is None else manifest.results

    def file(self, stage: str, name: str, variant: str = "all") -> Path | None:
        """Return the path of a file of a result; None if it was not made or is not here."""
        task = self.pipeline.task(stage, variant)
        path = task.artifact / name
        manifest = self.manifest(task)
        return path if manifest and name in manifest.files and path.is_file() else None

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of a folder's classes, None if they are not here or there are none."""
        if not isinstance(self.preset.data, ImageFolder):
            return None
        path = self.file("data", CLASSES)
        return None if path is None else read_class_names(path.parent)

    def rows(self) -> list[Row]:
        """Return a row for every model and sampling config, in the order of params.yaml."""
        rows = [
            make_row(
                self.preset,
                model,
                config,
                self.results("metrics", f"{model}/{config.name}"),
                self.results("sample", f"{model}/{config.name}"),
            )
            for model in self.preset.models
            for config in self.preset.sampling_configs(model)
        ]
        measured = {(row.model, row.schedule): row.nats for row in self.schedules()}
        return [
            replace(
                row,
                nats=None if row.guided else measured.get((row.model, row.schedule)),
                has_likelihood=not row.guided and (row.model, row.schedule) in measured,
            )
            for row in rows
        ]

    def schedules(self) -> list[Row]:
        """Return a row for every model and schedule of which likelihood is asked, without scores.

        One token per block is the first of a model's.
        """
        rows = []
        for model in self.preset.models:
            serial: NDArray[np.float64] | None = None
            for k, config in enumerate(self.preset.likelihood_configs(model)):
                nats = self.nll(f"{model}/{config.name}")
                serial = nats if k == 0 else serial
                row = make_row(self.preset, model, config)
                if nats is not None and serial is not None:
                    found = Nats(
                        nats_NS=nats,
                        serial_NS=serial,
                        sizes=row.schedule.sizes,
                        places=self.places(len(nats)),
                    )
                    row = replace(row, nats=found)
                rows.append(replace(row, has_likelihood=True))
        return rows

    def places(self, images: int) -> Places | None:
        """Return where so many held-out images are from; None where they are independent."""
        data = self.preset.data
        if not isinstance(data, Photographs):
            return None
        if images not in self._places:
            labels = np.arange(data.reference_images) % data.num_classes
            chosen = class_by_class(labels, images)  # As the stage `tokens` chooses them.
            self._places[images] = Places(
                classes_N=labels[chosen], places_N=held_out_tiles(chosen, data)
            )
        return self._places[images]

    def nll(self, variant: str) -> NDArray[np.float64] | None:
        """Return the NLL of held-out images (images, scales), None if it was not measured.

        Read once: rows, schedules and the study of orders all ask for it.
        """
        if variant not in self._nll:
            self._nll[variant] = self._read_nll(variant)
        return self._nll[variant]

    def _read_nll(self, variant: str) -> NDArray[np.float64] | None:
        path = self.file("likelihood", "nll.npz", variant)
        if path is None:
            return None
        with np.load(path) as arrays:
            found: NDArray[np.float64] = arrays["nll"]
            return found

    def system_rows(self) -> list[SystemRow]:
        """Return a row for every other system of the preset, in the order of params.yaml."""
        return [
            make_system_row(
                self.preset,
                model,
                self.results("metrics", f"{model}/{run.config.name}"),
                self.results("sample", f"{model}/{run.config.name}"),
                self.results("train", model),
            )
            for model, run in self.preset.systems.items()
        ]

    def tables(self, stage: str, name: str) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Return a CSV file of every variant that has it: variant -> column -> values."""
        found = {
            variant: self.file(stage, name, variant) for variant in self.pipeline.variants(stage)
        }
        return {variant: read_columns(path) for variant, path in found.items() if path}

    def codes(self, row: Row, count: int) -> NDArray[np.int64] | None:
        """Return the codes of a row's first images, (count, tokens), None if they are not here."""
        shards = list(self._shards(row, count))
        return np.concatenate(shards)[:count] if shards else None

    def _shards(self, row: Row, count: int) -> Iterator[NDArray[np.int64]]:
        """Yield shards of codes until there are enough images."""
        seen = index = 0
        while seen < count:
            path = self.file("sample", f"codes-{index:05d}.npy", row.variant)
            if path is None:
                return
            codes = np.load(path, mmap_mode="r")[: count - seen].astype(np.int64)
            yield codes
            seen, index = seen + len(codes), index + 1


def results_of(pipeline: Pipeline) -> tuple[Task, ...]:
    """Return the tasks that a report is made from: all but the report's own."""
    return tuple(task for task in pipeline if not task.in_git)


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read a CSV file of numbers: column name -> values; an empty cell is nan."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    values = np.array([[float(cell or "nan") for cell in line] for line in lines], dtype=np.float64)
    return dict(zip(header, values.reshape(-1, len(header)).T, strict=True))
