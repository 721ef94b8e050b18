"""Provenance: the chain behind a number, and whether what lies on disk is what was recorded."""

import csv
from pathlib import Path

import pytest

from pcb.config.stages import STAGES
from pcb.errors import UserError
from pcb.pipeline.resolved import resolved_settings, settings_file, write_settings
from pcb.pipeline.tasks import Pipeline
from pcb.pipeline.trace import ancestors, print_trace, task_of
from pcb.pipeline.verify import ABSENT, CURRENT, DAMAGED, NOT_MADE, STALE, verify
from tests.tasks import make_all, pipeline_of


@pytest.fixture
def made(folder: Path, smoke: Pipeline) -> Pipeline:
    """Return a preset of which everything was made."""
    make_all(smoke)
    return smoke


def states(pipeline: Pipeline) -> dict[str, str]:
    return {found.task.name: found.state for found in verify(pipeline)}


def write_table(pipeline: Pipeline) -> Path:
    """Write metrics.csv as the report does, as far as tracing reads it."""
    table = pipeline.task("report").artifact / "metrics.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "steps"])
        writer.writerows([v.partition("/")[0], "?"] for v in pipeline.variants("metrics"))
    return table


def test_everything_that_a_number_was_made_from_is_in_its_chain(smoke: Pipeline) -> None:
    chain = [task.name for task in ancestors(smoke, smoke.task("metrics", "ratio4/t17"))]
    assert chain == [
        "metrics/ratio4/t17",
        "sample/ratio4/t17",
        "train/ratio4",
        "tokens",
        "reference",
        "tokenizer",
        "data",
    ]


def test_a_target_may_be_a_task_a_manifest_a_file_or_a_row(made: Pipeline) -> None:
    task = made.task("sample", "ratio2/t9")
    for target in (task.name, str(task.manifest), str(task.artifact / "key.txt")):
        assert task_of(made, target) is task
    table = write_table(made)
    for row, variant in enumerate(made.variants("metrics"), start=1):
        assert task_of(made, f"{table}:{row}") is made.task("metrics", variant)


@pytest.mark.parametrize("target", ["metrics/ratio9/t17", "params.yaml", "other/metrics.csv:1"])
def test_what_cannot_be_traced_is_refused(made: Pipeline, target: str) -> None:
    with pytest.raises(UserError, match="reports/smoke/metrics.csv"):
        task_of(made, target)


@pytest.mark.parametrize("row", ["0", "99", "last", ""])
def test_a_row_that_the_table_lacks_is_refused(made: Pipeline, row: str) -> None:
    table = write_table(made)
    with pytest.raises(UserError, match="is not one of 1 to"):
        task_of(made, f"{table}:{row}")


def test_chain_is_printed_with_hashes_code_machine_and_state(
    made: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    task = made.task("metrics", "ratio2/t17")
    assert print_trace(made, task) == 0
    out = capsys.readouterr().out
    assert "metrics/ratio2/t17  [current]" in out
    assert task.key in out
    assert "torch" in out
    assert "all 7 match what lies on disk" in out
    (made.task("train", "ratio2").artifact / "key.txt").write_text("another size")
    assert print_trace(made, task) == 1
    assert "1 of 7 do not match: train/ratio2 is damaged" in capsys.readouterr().out


def test_every_way_of_being_wrong_has_its_name(made: Pipeline) -> None:
    assert set(states(made).values()) == {CURRENT}
    key = made.task("train", "ratio2").artifact / "key.txt"
    text = key.read_text()
    key.write_text(text[::-1])
    assert states(made)["train/ratio2"] == DAMAGED
    key.unlink()
    assert states(made)["train/ratio2"] == ABSENT
    key.write_text(text)
    (made.task("sample", "ratio2/t9").artifact / "complete.json").unlink()
    made.task("metrics", "ratio2/t9").manifest.unlink()
    found = states(made)
    assert found["sample/ratio2/t9"] == ABSENT
    assert found["metrics/ratio2/t9"] == NOT_MADE
    assert found["train/ratio2"] == CURRENT


def test_other_settings_make_a_task_stale(made: Pipeline, folder: Path) -> None:
    from tests.tasks import ROOT

    old = "ratio4: {model: {scale_ratio: 4}}"
    new = "ratio4: {model: {scale_ratio: 4}, training: {learning_rate: 1.0e-3}}"
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace(old, new))
    changed = pipeline_of(params=folder / "params.yaml")
    found = states(changed)
    assert found["train/ratio4"] == STALE
    assert found["train/ratio2"] == CURRENT


def test_large_files_are_read_anew_whatever_is_remembered(folder: Path, smoke: Pipeline) -> None:
    """A change that leaves size and time alone is seen by `verify`."""
    import os

    make_all(smoke)
    task = smoke.task("data")
    path = task.artifact / "large.bin"
    path.write_bytes(bytes(2 << 20))
    from pcb.pipeline.integrity import damaged_files, hash_files
    from pcb.runtime.hashing import record_file

    records = {"large.bin": record_file(path)}
    hash_files(task, ["large.bin"])
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not list(damaged_files(task, records))
    assert [p for p, _ in damaged_files(task, records, reread=True)] == [path]


def test_resolved_settings_hold_what_each_task_gets(folder: Path, smoke: Pipeline) -> None:
    found = resolved_settings(smoke)
    for task in smoke:
        settings = found[task.stage]
        assert (settings if task.variant == "all" else settings[task.variant]) == task.settings
    assert found["versions"] == {stage.name: stage.version for stage in STAGES.values()}
    path = write_settings(smoke)
    assert path == settings_file("smoke")
    before = path.stat().st_mtime_ns
    write_settings(smoke)
    assert path.stat().st_mtime_ns == before
