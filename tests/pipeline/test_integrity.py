from pathlib import Path

import pytest

from pcb.pipeline.integrity import damaged_files, is_intact
from pcb.pipeline.manifest import Manifest
from pcb.pipeline.run import run_task
from pcb.pipeline.task import Task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime import hashing
from tests.tasks import write_key


@pytest.fixture
def made(folder: Path, smoke: Pipeline) -> tuple[Task, Manifest, Path]:
    task = smoke.task("data")
    return task, run_task(task, smoke.preset, write_key), task.artifact / "key.txt"


def damage(task: Task, manifest: Manifest) -> list[str]:
    return [what for _, what in damaged_files(task, manifest.files)]


def test_untouched_files_are_intact(made: tuple[Task, Manifest, Path]) -> None:
    task, manifest, _ = made
    assert is_intact(task, manifest)


def test_missing_truncated_and_altered_files_are_told_apart(
    made: tuple[Task, Manifest, Path],
) -> None:
    task, manifest, path = made
    path.write_text("x" * 16)
    assert damage(task, manifest) == ["does not hold what its manifest says"]
    path.write_text("x")
    assert damage(task, manifest) == ["has 1 bytes where 16 are expected"]
    path.unlink()
    assert damage(task, manifest) == ["is missing"]


def test_large_file_is_read_again_only_when_it_looks_touched(
    made: tuple[Task, Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, manifest, path = made
    monkeypatch.setattr(hashing, "SMALL", 4)
    assert is_intact(task, manifest)
    with monkeypatch.context() as unread:
        unread.setattr(hashing, "record_file", lambda path: pytest.fail(f"{path} was read"))
        assert is_intact(task, manifest)
    path.write_text("x" * 16)
    assert damage(task, manifest) == ["does not hold what its manifest says"]


def test_unreadable_memory_of_hashes_is_made_anew(
    made: tuple[Task, Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, manifest, _ = made
    monkeypatch.setattr(hashing, "SMALL", 4)
    assert is_intact(task, manifest)
    (seen,) = Path(".pcb/seen").rglob("*.json")
    seen.write_text("{")
    assert is_intact(task, manifest)
