import os
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from pcb.errors import UserError
from pcb.pipeline.job import Job
from pcb.pipeline.run import run_task
from pcb.pipeline.staleness import sync_times
from pcb.pipeline.task import Task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import write_atomic
from tests.tasks import make_all, pipeline_of, write_key


def stale(pipeline: Pipeline) -> list[str]:
    """Sync the times, and return the tasks that a tool which compares times would make."""
    sync_times(pipeline)
    return [task.name for task in pipeline if looks_stale(task)]


def looks_stale(task: Task) -> bool:
    if not task.manifest.exists():
        return True
    inputs = [task.staleness, *(read.task.manifest for read in task.inputs if not read.partitions)]
    made = task.manifest.stat().st_mtime_ns
    return any(path.stat().st_mtime_ns > made for path in inputs if path.exists())


def with_learning_rate(pipeline: Pipeline, model: str, rate: float) -> Pipeline:
    """Return the pipeline of the same preset with another learning rate for one model."""
    run = pipeline.preset.models[model]
    training = msgspec.structs.replace(run.training, learning_rate=rate)
    models = {**pipeline.preset.models, model: msgspec.structs.replace(run, training=training)}
    return Pipeline(pipeline.name, msgspec.structs.replace(pipeline.preset, models=models))


def other(job: Job) -> Mapping[str, object]:
    write_atomic(job.folder / "key.txt", "another result")
    return {}


def test_everything_is_stale_at_first_and_nothing_after_it_was_made(
    folder: Path, smoke: Pipeline
) -> None:
    assert stale(smoke) == [task.name for task in smoke]
    make_all(smoke)
    assert stale(smoke) == []


def test_times_of_a_clone_do_not_matter(folder: Path, smoke: Pipeline) -> None:
    make_all(smoke)
    files = [path for path in folder.rglob("*") if path.is_file()]
    generator = random.Random(0)
    for _ in range(3):
        shutil.rmtree(".pcb", ignore_errors=True)
        for path in files:
            if path.exists():
                os.utime(path, (generator.randrange(2**31),) * 2)
        assert stale(smoke) == []


def test_data_need_not_be_here(folder: Path, smoke: Pipeline) -> None:
    make_all(smoke)
    shutil.rmtree("results/artifacts")
    assert stale(smoke) == []


def test_setting_makes_stale_what_depends_on_it_and_nothing_else(
    folder: Path, smoke: Pipeline
) -> None:
    make_all(smoke)
    changed = with_learning_rate(smoke, "ratio4", 1e-3)
    settings = smoke.preset.sampling_configs("ratio4")
    expected = {"train/ratio4", "report"}
    expected |= {f"{s}/ratio4/{point.name}" for s in ("sample", "metrics") for point in settings}
    likely = smoke.preset.likelihood_configs("ratio4")
    expected |= {f"likelihood/ratio4/{point.name}" for point in likely}
    assert set(stale(changed)) == expected
    assert stale(changed) == stale(changed)
    make_all(changed)
    assert stale(changed) == []


def test_staleness_file_is_not_written_anew_while_nothing_happens(
    folder: Path, smoke: Pipeline
) -> None:
    make_all(smoke)
    changed = with_learning_rate(smoke, "ratio4", 1e-3)
    sync_times(changed)
    mark = smoke.task("train", "ratio4").staleness
    first = mark.read_text()
    sync_times(changed)
    assert mark.read_text() == first


def test_staleness_file_never_has_a_content_that_was_seen_before(
    folder: Path, smoke: Pipeline
) -> None:
    changed = with_learning_rate(smoke, "ratio4", 1e-3)
    mark = smoke.task("train", "ratio4").staleness
    seen = set()
    for pipeline in [smoke, changed] * 2:
        sync_times(pipeline)
        seen.add(mark.read_text())
        make_all(pipeline)
    assert len(seen) == 4


def test_manifest_of_the_future_is_still_older_than_its_staleness_file(
    folder: Path, smoke: Pipeline
) -> None:
    make_all(smoke)
    manifest = smoke.task("train", "ratio4").manifest
    os.utime(manifest, (4e9, 4e9))
    assert "train/ratio4" in stale(with_learning_rate(smoke, "ratio4", 1e-3))


def test_other_result_of_the_same_settings_reaches_its_readers(
    folder: Path, smoke: Pipeline
) -> None:
    make_all(smoke)
    train = smoke.task("train", "ratio2")
    run_task(train, smoke.preset, write_key, force=True)
    assert stale(smoke) == []
    run_task(train, smoke.preset, other, force=True)
    samples = [f"sample/ratio2/{point.name}" for point in smoke.preset.sampling_configs("ratio2")]
    likely = [f"likelihood/ratio2/{p.name}" for p in smoke.preset.likelihood_configs("ratio2")]
    assert set(stale(smoke)) == {*samples, *likely, "report"}
    make_all(smoke)
    assert stale(smoke) == []


def test_new_scale_leaves_models_that_do_not_read_it(folder: Path, smoke: Pipeline) -> None:
    make_all(smoke)
    ratio3 = pipeline_of("mini").preset.models["ratio3"]
    models = {**smoke.preset.models, "ratio3": ratio3}
    grown = Pipeline("smoke", msgspec.structs.replace(smoke.preset, models=models))
    assert grown.preset.all_sizes != smoke.preset.all_sizes
    assert stale(grown) == ["tokens", "train/ratio3", "report"]
    make_all(grown)
    assert stale(smoke) == ["tokens", "report"]


@pytest.mark.parametrize("damage", ["delete", "edit", "truncate"])
def test_report_is_current_only_with_its_pages(folder: Path, smoke: Pipeline, damage: str) -> None:
    make_all(smoke)
    page = Path("reports/smoke/index.html")
    if damage == "delete":
        page.unlink()
    else:
        page.write_text("x" if damage == "truncate" else "x" * 16)
    assert stale(smoke) == ["report"]
    make_all(smoke)
    assert stale(smoke) == []


def test_folder_of_another_version_is_refused(folder: Path, smoke: Pipeline) -> None:
    make_all(smoke)
    shutil.copytree("results/manifests", "old")
    changed = with_learning_rate(smoke, "ratio4", 1e-3)
    make_all(changed)
    shutil.rmtree("results/manifests")
    shutil.move("old", "results/manifests")  # As `git checkout` does, without `dvc checkout`.
    with pytest.raises(UserError, match=r"train/ratio4 \(and \d+ more\): holds another.*dvc check"):
        sync_times(smoke)
    assert "train/ratio4" in stale(changed)


def test_staleness_file_that_says_nothing_is_written_anew(folder: Path, smoke: Pipeline) -> None:
    sync_times(smoke)
    mark = smoke.task("data").staleness
    mark.write_text("{")
    sync_times(smoke)
    assert smoke.task("data").key in mark.read_text()


def test_unwritable_folder_is_named(folder: Path, smoke: Pipeline) -> None:
    Path(".pcb").write_text("in the way")
    with pytest.raises(UserError, match=r"\.pcb"):
        sync_times(smoke)


def test_times_that_have_not_come_yet_are_brought_back(folder: Path, smoke: Pipeline) -> None:
    """Those of a machine whose clock was ahead, of any of the files."""
    make_all(smoke)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for chosen in (files, files[::3], [smoke.task("data").manifest]):
        for path in chosen:
            os.utime(path, (4e9, 4e9))
        assert stale(smoke) == []
        times = [task.manifest.stat().st_mtime for task in smoke]
        times += [path.stat().st_mtime for path in smoke.task("report").artifact.rglob("*.html")]
        assert max(times) <= time.time()
    os.utime(smoke.task("data").manifest, (4e9, 4e9))
    changed = with_learning_rate(smoke, "ratio4", 1e-3)
    assert set(stale(changed)) >= {"train/ratio4"}
    assert "train/ratio2" not in stale(changed)


def test_what_is_made_is_no_older_than_what_it_was_made_from(folder: Path, smoke: Pipeline) -> None:
    """The machine that made the input was ahead of this one."""
    run_task(smoke.task("data"), smoke.preset, write_key)
    os.utime(smoke.task("data").manifest, (4e9, 4e9))
    for again in (False, True):
        run_task(smoke.task("tokenizer"), smoke.preset, write_key, force=again)
        assert smoke.task("tokenizer").manifest.stat().st_mtime >= 4e9
    run_task(smoke.task("tokenizer"), smoke.preset, write_key)
    assert smoke.task("tokenizer").manifest.stat().st_mtime >= 4e9
