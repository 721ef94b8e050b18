import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pcb.errors import UserError
from pcb.pipeline.folder import WORK
from pcb.pipeline.job import Job
from pcb.pipeline.manifest import COMPLETE, read_manifest
from pcb.pipeline.run import run_task
from pcb.pipeline.task import Input, Task
from pcb.pipeline.tasks import Pipeline
from pcb.pipeline.verify import verify
from pcb.runtime import hashing
from pcb.runtime.atomic import write_atomic
from tests.tasks import make_all, pipeline_of, write_key


def never(job: Job) -> Mapping[str, object]:
    raise AssertionError(f"{job.task.name} was made again")


def other(job: Job) -> Mapping[str, object]:
    write_atomic(job.folder / "key.txt", "another result")
    return {}


def partitions_of(job: Job) -> dict[str, bool]:
    """Say which partitions were found in the folder."""
    return {name: (job.folder / name).is_dir() for name, _ in job.task.partitions}


def with_sizes(smoke: Pipeline, *sizes: int) -> Task:
    """Return the token cache's task as it would be with these scales alone."""
    tokens = smoke.task("tokens")
    wanted = {f"s{size:03d}" for size in sizes}
    return Task(
        preset=tokens.preset,
        stage="tokens",
        settings={**tokens.settings, "sizes": list(sizes)},
        inputs=tokens.inputs,
        partitions=tuple(own for own in tokens.partitions if own[0] in wanted),
    )


def make_before(smoke: Pipeline, stage: str) -> Task:
    """Make all that comes before a stage's first task, and return that task."""
    for task in smoke:
        if task.stage == stage:
            return task
        run_task(task, smoke.preset, write_key)
    raise AssertionError(f"no stage {stage}")


def test_manifest_describes_the_result(folder: Path, smoke: Pipeline) -> None:
    train = make_before(smoke, "train")
    manifest = run_task(train, smoke.preset, write_key)
    assert manifest == read_manifest(train.manifest) == read_manifest(train.artifact / COMPLETE)
    assert manifest.key == train.key
    training = smoke.preset.models["ratio2"].training
    assert manifest.settings["training"]["learning_rate"] == training.learning_rate
    assert [record.name for record in manifest.inputs] == ["tokens", "tokenizer"]
    assert list(manifest.files) == ["key.txt"]
    assert manifest.results == {"bytes": 16}
    assert not (train.artifact / WORK).exists()


def test_job_names_its_inputs_by_stage(folder: Path, smoke: Pipeline) -> None:
    sample = make_before(smoke, "sample")
    jobs: list[Job] = []

    def look(job: Job) -> Mapping[str, object]:
        jobs.append(job)
        return {}

    run_task(sample, smoke.preset, look)
    train = smoke.task("train", "ratio2")
    tokenizer = smoke.task("tokenizer")
    assert jobs[0].inputs == {"train": train.artifact, "tokenizer": tokenizer.artifact}


def test_report_names_many_tasks_of_a_stage_by_task(folder: Path, smoke: Pipeline) -> None:
    report = make_before(smoke, "report")
    jobs: list[Job] = []

    def look(job: Job) -> Mapping[str, object]:
        jobs.append(job)
        return {}

    run_task(report, smoke.preset, look)
    assert "train" not in jobs[0].inputs
    assert {"data", "train/ratio2", "metrics/ratio4/t17"} <= set(jobs[0].inputs)


def test_complete_task_is_not_made_again(folder: Path, smoke: Pipeline) -> None:
    task = smoke.task("data")
    first = run_task(task, smoke.preset, write_key)
    task.manifest.unlink()
    assert run_task(task, smoke.preset, never) == first
    assert read_manifest(task.manifest) == first


def test_force_starts_from_nothing(folder: Path, smoke: Pipeline) -> None:
    task = smoke.task("data")
    run_task(task, smoke.preset, write_key)

    def look(job: Job) -> Mapping[str, object]:
        assert [path.name for path in job.folder.iterdir()] == [WORK]
        return {}

    run_task(task, smoke.preset, look, force=True)


def test_interrupted_run_finds_its_files_again(folder: Path, smoke: Pipeline) -> None:
    task = smoke.task("data")

    def die(job: Job) -> Mapping[str, object]:
        write_atomic(job.folder / "0.npy", "finished shard")
        (job.folder / ".checkpoint.pt").write_text("state")
        raise KeyboardInterrupt

    def resume(job: Job) -> Mapping[str, object]:
        assert (job.folder / "0.npy").read_text() == "finished shard"
        assert (job.folder / ".checkpoint.pt").read_text() == "state"
        write_atomic(job.folder / "1.npy", "second shard")
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_task(task, smoke.preset, die)
    assert not task.manifest.exists()
    manifest = run_task(task, smoke.preset, resume)
    assert list(manifest.files) == ["0.npy", "1.npy"]
    assert sorted(path.name for path in task.artifact.iterdir()) == ["0.npy", "1.npy", COMPLETE]


def test_files_of_other_settings_are_cleared(folder: Path, smoke: Pipeline) -> None:
    task = smoke.task("data")

    def die(job: Job) -> Mapping[str, object]:
        write_atomic(job.folder / "0.npy", "old settings")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(task, smoke.preset, die)
    changed = Task(preset="smoke", stage="data", settings={"other": 1})
    assert list(run_task(changed, smoke.preset, write_key).files) == ["key.txt"]


def test_files_made_from_another_input_are_cleared(folder: Path, smoke: Pipeline) -> None:
    tokenizer = make_before(smoke, "tokenizer")
    run_task(tokenizer, smoke.preset, write_key)
    run_task(smoke.task("data"), smoke.preset, other, force=True)

    def look(job: Job) -> Mapping[str, object]:
        assert not (job.folder / "key.txt").exists()
        return write_key(job)

    run_task(tokenizer, smoke.preset, look)


def test_files_of_unknown_origin_are_cleared(folder: Path, smoke: Pipeline) -> None:
    task = smoke.task("data")
    write_atomic(task.artifact / "0.npy", "from nowhere")
    assert list(run_task(task, smoke.preset, write_key).files) == ["key.txt"]


def test_new_partition_leaves_the_others(folder: Path, smoke: Pipeline) -> None:
    make_before(smoke, "tokens")
    found: list[dict[str, bool]] = []

    def encode(job: Job) -> Mapping[str, object]:
        found.append(partitions_of(job))
        return write_key(job)

    run_task(with_sizes(smoke, 1, 4), smoke.preset, encode)
    grown = run_task(with_sizes(smoke, 1, 4, 8), smoke.preset, encode)
    assert found[1] == {"s001": True, "s004": True, "s008": False}
    shrunk = run_task(with_sizes(smoke, 4, 8), smoke.preset, encode)
    assert found[2] == {"s004": True, "s008": True}
    assert grown.content_of(("s004", "s008")) == shrunk.content_of(("s004", "s008"))
    assert set(shrunk.files) == {"s004/key.txt", "s008/key.txt"}


def test_damaged_file_of_a_complete_task_is_made_again(folder: Path, smoke: Pipeline) -> None:
    make_before(smoke, "tokens")
    task = smoke.task("tokens")
    whole = run_task(task, smoke.preset, write_key)
    (task.artifact / "s008" / "key.txt").write_text("x")
    (task.artifact / "s008" / "more.txt").write_text("nobody's")

    def encode(job: Job) -> Mapping[str, object]:
        assert (job.folder / "s004" / "key.txt").exists()
        assert list((job.folder / "s008").iterdir()) == []
        return write_key(job)

    assert run_task(task, smoke.preset, encode).content == whole.content


def test_missing_input_names_the_command(folder: Path, smoke: Pipeline) -> None:
    with pytest.raises(UserError, match="reads data, but it was not made yet.*`pcb data --preset"):
        run_task(smoke.task("tokenizer"), smoke.preset, never)


def test_input_of_other_settings_is_refused(folder: Path, smoke: Pipeline) -> None:
    make_all(smoke)
    other_data = Task(preset="smoke", stage="data", settings={"kind": "other"})
    inputs = (Input(task=other_data),)
    reader = Task(preset="smoke", stage="tokenizer", settings={}, inputs=inputs)
    with pytest.raises(UserError, match="reads data, but it was made with other settings"):
        run_task(reader, smoke.preset, never)


def test_stale_input_is_refused(folder: Path, smoke: Pipeline) -> None:
    make_all(smoke)
    run_task(smoke.task("data"), smoke.preset, other, force=True)
    with pytest.raises(UserError, match="tokens, but data was made again with another result"):
        run_task(smoke.task("train", "ratio2"), smoke.preset, never)


@pytest.mark.parametrize("truncate", [True, False])
def test_damaged_input_names_the_file_and_the_ways_out(
    folder: Path, smoke: Pipeline, truncate: bool
) -> None:
    tokenizer = make_before(smoke, "tokenizer")
    path = smoke.task("data").artifact / "key.txt"
    path.write_text("x") if truncate else path.unlink()
    with pytest.raises(UserError, match=f"{path}: .*dvc pull {path.parent}.*`pcb data --preset"):
        run_task(tokenizer, smoke.preset, never)


def test_full_disk_leaves_nothing_under_a_final_name(folder: Path, smoke: Pipeline) -> None:
    task = smoke.task("data")

    def fill(job: Job) -> Mapping[str, object]:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="no space left"):
        run_task(task, smoke.preset, fill)
    assert not task.manifest.exists()
    assert not (task.artifact / COMPLETE).exists()


def test_result_that_is_no_number_is_null(folder: Path, smoke: Pipeline) -> None:
    manifest = run_task(smoke.task("data"), smoke.preset, lambda job: {"is": float("nan")})
    assert manifest.results == {"is": None}


def test_results_have_to_be_plain_data(folder: Path, smoke: Pipeline) -> None:
    with pytest.raises(TypeError):
        run_task(smoke.task("data"), smoke.preset, lambda job: {"fid": object()})


def slow(job: Job) -> Mapping[str, object]:
    (job.folder.parent / "started").touch()
    time.sleep(0.5)
    return write_key(job)


def make_slowly(folder: Path) -> None:
    os.chdir(folder)
    smoke = pipeline_of()
    run_task(smoke.task("data"), smoke.preset, slow)


def test_second_process_waits_and_finds_it_done(
    folder: Path, smoke: Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    task = smoke.task("data")
    first = multiprocessing.get_context("spawn").Process(target=make_slowly, args=(folder,))
    first.start()
    while not (task.artifact.parent / "started").exists():
        assert first.is_alive() or first.exitcode == 0
        time.sleep(0.01)
    run_task(task, smoke.preset, never)
    first.join()
    assert first.exitcode == 0
    assert "data: another process is making it; waiting" in capfd.readouterr().out


def test_a_report_stays_until_its_successor_is_whole(folder: Path, smoke: Pipeline) -> None:
    make_all(smoke)
    report = smoke.task("report")
    write_atomic(report.artifact / "figures" / "old.png", "old")
    before = {path: path.read_bytes() for path in report.artifact.rglob("*") if path.is_file()}

    def broken(job: Job) -> Mapping[str, object]:
        write_atomic(job.folder / "index.html", "half")
        raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            run_task(report, smoke.preset, broken, force=True)
        assert all(path.read_bytes() == data for path, data in before.items())

    def other(job: Job) -> Mapping[str, object]:
        write_atomic(job.folder / "index.html", "new")
        return {}

    assert set(run_task(report, smoke.preset, other, force=True).files) == {"index.html"}
    left = [path.relative_to(report.artifact).as_posix() for path in report.artifact.rglob("*")]
    assert sorted(left) == ["complete.json", "index.html"]


def test_a_checkout_whose_memory_cannot_be_written_is_verified_all_the_same(
    folder: Path, smoke: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(smoke)
    monkeypatch.setattr(hashing, "SMALL", 0)
    shutil.rmtree(".pcb")
    Path(".pcb").write_text("no folder")
    assert all(found.current for found in verify(smoke))
