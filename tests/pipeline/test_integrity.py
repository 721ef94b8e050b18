from pathlib import Path

import pytest

from pcb.pipeline import integrity as verify
from pcb.pipeline.manifest import Manifest
from pcb.pipeline.run import run_unit
from pcb.pipeline.tasks import Pipeline, Unit
from pcb.runtime import hashing
from tests.units import write_key


@pytest.fixture
def made(folder: Path, smoke: Pipeline) -> tuple[Unit, Manifest, Path]:
    unit = smoke.unit("data")
    return unit, run_unit(unit, smoke.preset, write_key), unit.artifact / "key.txt"


def damage(unit: Unit, manifest: Manifest) -> list[str]:
    return [what for _, what in verify.damaged_files(unit, manifest.files)]


def test_untouched_files_are_intact(made: tuple[Unit, Manifest, Path]) -> None:
    unit, manifest, _ = made
    assert verify.is_intact(unit, manifest)


def test_missing_truncated_and_altered_files_are_told_apart(
    made: tuple[Unit, Manifest, Path],
) -> None:
    unit, manifest, path = made
    path.write_text("x" * 16)
    assert damage(unit, manifest) == ["does not hold what its manifest says"]
    path.write_text("x")
    assert damage(unit, manifest) == ["has 1 bytes where 16 are expected"]
    path.unlink()
    assert damage(unit, manifest) == ["is missing"]


def test_large_file_is_read_again_only_when_it_looks_touched(
    made: tuple[Unit, Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, manifest, path = made
    monkeypatch.setattr(hashing, "SMALL", 4)
    assert verify.is_intact(unit, manifest)
    with monkeypatch.context() as unread:
        unread.setattr(hashing, "record_file", lambda path: pytest.fail(f"{path} was read"))
        assert verify.is_intact(unit, manifest)
    path.write_text("x" * 16)
    assert damage(unit, manifest) == ["does not hold what its manifest says"]


def test_unreadable_memory_of_hashes_is_made_anew(
    made: tuple[Unit, Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, manifest, _ = made
    monkeypatch.setattr(hashing, "SMALL", 4)
    assert verify.is_intact(unit, manifest)
    (seen,) = Path(".pcb/seen").rglob("*.json")
    seen.write_text("{")
    assert verify.is_intact(unit, manifest)
