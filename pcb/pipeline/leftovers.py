"""Results of models and configs that params.yaml no longer has: listed and removed.

They are kept until somebody deletes them. No torch.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from pcb.config.paths import ARTIFACTS, LOGS, MANIFESTS, REPORTS, RESOLVED, STALENESS
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import disk_errors_explained, write_atomic

_IGNORE = ".dvcignore"


def leftovers(pipeline: Pipeline) -> list[Path]:
    """Return the manifests and folders of a preset that none of its tasks makes, sorted."""
    name, tasks = pipeline.name, list(pipeline)
    manifests = {task.manifest for task in tasks}
    found = [
        path
        for path in sorted((MANIFESTS / name).rglob("*.json"))
        if path not in manifests and not path.name.startswith(".")
    ]
    return found + list(_folders(ARTIFACTS / name, {task.artifact for task in tasks}))


def leftovers_of_presets(presets: Mapping[str, object]) -> list[Path]:
    """Return what there is of presets that params.yaml no longer has, sorted."""
    found = [
        path
        for above in (MANIFESTS, ARTIFACTS, REPORTS)
        for path in _inside(above)
        if path.is_dir() and path.name not in presets
    ]
    return found + [path for path in _inside(RESOLVED) if path.stem not in presets]


def delete_leftovers(paths: list[Path]) -> None:
    """Delete them, and what logs and staleness files there are of them."""
    for path in paths:
        with disk_errors_explained(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            if path.is_relative_to(MANIFESTS) and path.suffix == ".json":
                inside = path.relative_to(MANIFESTS)
                (STALENESS / inside).unlink(missing_ok=True)
                (LOGS / inside.with_suffix(".log")).unlink(missing_ok=True)
            _drop_empty(path.parent)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if not path.is_dir() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.lstat().st_size for file in files)


def ignore_in_dvc(preset: str, paths: list[Path]) -> None:
    """Have DVC leave these out of what it records of a preset, by files that are in no git."""
    for above in (ARTIFACTS / preset, MANIFESTS / preset):
        lines = [f"/{path.relative_to(above)}\n" for path in paths if path.is_relative_to(above)]
        if lines:
            write_atomic(above / _IGNORE, "".join(lines))
        else:
            (above / _IGNORE).unlink(missing_ok=True)


def _folders(above: Path, wanted: set[Path]) -> Iterator[Path]:
    """Yield the folders below one that hold files and are neither wanted nor above a wanted one."""
    parents = {parent for path in wanted for parent in path.parents}
    for path in _inside(above):
        if path in wanted or not path.is_dir():
            continue
        if path in parents:
            yield from _folders(path, wanted)
        elif any(file.is_file() for file in path.rglob("*")):
            yield path


def _inside(folder: Path) -> list[Path]:
    """Return what stands in a folder and is not hidden, sorted; nothing if it is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _drop_empty(folder: Path) -> None:
    """Delete a folder that has become empty, and those above it, up to a preset's stage."""
    while folder.is_dir() and len(folder.parts) > len(MANIFESTS.parts) + 2:
        if any(folder.iterdir()):
            return
        folder.rmdir()
        folder = folder.parent
