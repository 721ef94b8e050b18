"""`pcb doctor`: this machine's state for each preset, and the results that are here."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pcb.config import Compute, ImageFolder, ImageNet
from pcb.config.loader import active_preset, load_params, parse_preset
from pcb.data.folder import find_images
from pcb.data.tree import class_names, tree_root
from pcb.errors import UserError
from pcb.external.catalog import needed_files
from pcb.external.files import size_text, state_of
from pcb.pipeline.staleness import read_manifests, why_stale
from pcb.pipeline.task import Input
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.environment import DISTRIBUTION, processor_name, required_packages

PYTHON = (3, 11)
MEMORY_GIB, DISK_GIB = 3.5, 2.0
"""What the miniature takes; a machine sold as 4 GB shows a little less."""
LOADED = ("torch", "torchvision")
"""Packages that are also imported: a wrong pair of builds is installed but doesn't load."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: `problem` is None or the way out."""

    thing: str
    found: str
    problem: str | None = None

    def line(self) -> str:
        """Return the finding as a line of the table."""
        mark = "ok  " if self.problem is None else "LACK"
        return f"  {mark}  {self.thing:<26}{self.found}" + (
            f"; {self.problem}" if self.problem else ""
        )


def examine(params_file: Path) -> int:
    """Print the findings; the status is 1 if the active preset cannot run here."""
    machine = list(machine_findings())
    print("machine")
    print("\n".join(finding.line() for finding in machine))
    params = load_params(params_file)
    able = {}
    for name in params["presets"]:
        print(f"\npreset {name}{' (active)' if name == active_preset(params) else ''}")
        findings = list(preset_findings(params_file, name))
        print("\n".join(finding.line() for finding in findings))
        able[name] = not any(finding.problem for finding in [*machine, *findings])
    return 0 if able.get(active_preset(params)) else 1


def machine_findings() -> Iterator[Finding]:
    """Look at what every preset needs."""
    wanted = ".".join(map(str, PYTHON))
    old = sys.version_info < PYTHON
    yield Finding(
        thing="python",
        found=platform.python_version(),
        problem=f"install Python {wanted} or newer" if old else None,
    )
    yield Finding(thing="cores", found=f"{os.cpu_count()} ({processor_name()})")
    yield _enough("memory", _memory_gib(), MEMORY_GIB, "close other programs or take a larger one")
    yield _enough("disk", shutil.disk_usage(".").free / 2**30, DISK_GIB, "free some")
    yield from _packages()
    yield Finding(thing="GPU", found=_gpu() or "none", problem=_gpu_problem())


def preset_findings(params_file: Path, name: str) -> Iterator[Finding]:
    """Look at what one preset asks for beyond that, and at its results."""
    try:
        preset = parse_preset(load_params(params_file), name, str(params_file))
    except UserError as error:
        yield Finding(thing="settings", found="wrong", problem=str(error))
        return
    yield Finding(thing="settings", found=preset.description)
    yield _device(preset.compute)
    pipeline = Pipeline(name, preset)
    yield from file_findings(pipeline)
    manifests = read_manifests(pipeline)
    tasks = list(pipeline)
    missing = [task for task in tasks if why_stale(Input(task=task), manifests)]
    here = [task for task in tasks if task.artifact.is_dir() and task not in missing]
    found = f"{len(tasks) - len(missing)} of {len(tasks)} are current, {len(here)} with their data"
    yield Finding(thing="results", found=found)


def file_findings(pipeline: Pipeline) -> Iterator[Finding]:
    """Look for the external files that a preset reads, and whether it holds what it must."""
    preset = pipeline.preset
    for name in needed_files(preset):
        state = state_of(preset.files, name)
        size = f", {size_text(state.bytes)}" if state.bytes is not None else ""
        found = f"{state.word}, {state.path}{size}"
        yield Finding(thing=name, found=found, problem=state.problem)
    if isinstance(preset.data, ImageNet) and "data" in {task.stage for task in pipeline}:
        files, classes = preset.files, preset.data.num_classes
        yield _images("imagenet", files.imagenet, classes)
        if files.imagenet_validation is not None or preset.likelihood_sizes:
            yield _images("imagenet_validation", files.imagenet_validation, None)
    if isinstance(preset.data, ImageFolder):
        yield _folder(preset.data)


def _images(key: str, path: str | None, classes: int | None) -> Finding:
    """Look at a tree of images, as far as its classes; None where it need not have any."""
    try:
        root = tree_root(path, f"files.{key}")
        names = [] if classes is None else class_names(root)
    except UserError as error:
        return Finding(thing=key, found="missing", problem=str(error))
    if classes is None:
        return Finding(thing=key, found=f"present, {root}")
    wrong = f"{classes} are expected: complete them" if len(names) != classes else None
    return Finding(thing=key, found=f"present, {root}, {len(names)} classes", problem=wrong)


def _folder(data: ImageFolder) -> Finding:
    """Look at a folder of images of one's own."""
    try:
        found = find_images(data)
    except UserError as error:
        return Finding(thing="folder", found=data.folder, problem=str(error))
    counts = f"{len(found.train)} images to train on, {len(found.held_out)} held out"
    return Finding(
        thing="folder", found=f"present, {data.folder}, {len(found.classes)} classes, {counts}"
    )


def _device(compute: Compute) -> Finding:
    """Look for the device that a preset wants."""
    lacks = compute.device == "cuda" and _gpu() is None
    return Finding(
        thing="device",
        found=compute.device,
        problem="no CUDA GPU here; set compute.device to auto or cpu" if lacks else None,
    )


def _enough(thing: str, gib: float, needed: float, way_out: str) -> Finding:
    """Compare an amount with what is needed."""
    problem = f"{needed:g} GiB are needed: {way_out}" if gib < needed else None
    return Finding(thing=thing, found=f"{gib:.1f} GiB", problem=problem)


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _packages() -> Iterator[Finding]:
    """Look for this package and for all that it asks for."""
    try:
        names = [DISTRIBUTION, *required_packages()]
    except PackageNotFoundError:
        names = [DISTRIBUTION]
    for name in names:
        yield _package(name)


def _package(name: str) -> Finding:
    """Look for a package; load those that may be installed and yet not load."""
    try:
        found = version(name)
        if name in LOADED:
            import_module(name)
    except PackageNotFoundError:
        return Finding(thing=name, found="absent", problem="run `make install`")
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return Finding(
            thing=name, found=f"{found} does not load ({reason})", problem="run `make install`"
        )
    return Finding(thing=name, found=found)


def _gpu_problem() -> str | None:
    """Return why torch cannot use a GPU that this machine seems to have; None if all is well."""
    if "torch" not in sys.modules:
        return None
    # It loads torch, which was looked at before.
    from pcb.runtime.device import pick_device

    try:
        pick_device(Compute())
    except UserError as error:
        return str(error)
    return None


def _gpu() -> str | None:
    """Return the GPU that torch can use, None if there is none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())
