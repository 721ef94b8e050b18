"""Snakemake's plan, with results of a few bytes in the place of real ones."""

import os
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pcb.pipeline.run import run_task
from pcb.pipeline.task import Task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import write_atomic
from tests.clock import cpu_seconds
from tests.tasks import make_all, pipeline_of, write_key
from tests.workflow.snakemake import copy_project, failure, planned, snakemake

pytestmark = pytest.mark.workflow


@pytest.fixture
def project(folder: Path) -> Path:
    """Return a copy of the project without results, as the working directory."""
    return copy_project(folder)


@pytest.fixture
def made(project: Path, smoke: Pipeline) -> Path:
    """Return a copy of the project in which every task of `smoke` is made."""
    make_all(smoke)
    return project


def edit_params(project: Path, old: str, new: str) -> None:
    path = project / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def set_learning_rate(project: Path, model: str, ratio: int) -> None:
    """Give one model a learning rate of its own."""
    old = f"{model}: {{model: {{scale_ratio: {ratio}}}}}"
    edit_params(project, old, f"{old[:-1]}, training: {{learning_rate: 1.0e-3}}}}")


def of_model(pipeline: Pipeline, model: str) -> set[str]:
    """Return a model's training, its samples with their metrics, and its likelihoods."""
    return {u.name for u in pipeline if u.variant.partition("/")[0] == model}


@pytest.mark.parametrize("preset", ["mini", "smoke", "paper", "paper-pretrained", "paper-smoke"])
def test_dry_run_before_anything_has_run_is_the_full_plan(project: Path, preset: str) -> None:
    pipeline = pipeline_of(preset)
    before = cpu_seconds()
    assert planned(project, preset) == {task.name for task in pipeline}
    assert cpu_seconds() - before < 10
    out = snakemake(project, "--dry-run", "--quiet", "rules", preset=preset)
    jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", out, re.MULTILINE)}
    expected = Counter(task.stage for task in pipeline)
    assert jobs == {**expected, "all": 1, "total": expected.total() + 1}


def test_miniature_has_the_sweep_that_was_asked_for() -> None:
    counts = Counter(task.stage for task in pipeline_of("mini"))
    assert counts["train"] == 4
    assert counts["sample"] == counts["metrics"] == 16
    # Six unguided schedules of each ratio, one without mixing, and one token per block of each.
    assert counts["likelihood"] == 3 * 7 + 2


def test_phases_are_targets(project: Path, smoke: Pipeline) -> None:
    out = snakemake(project, "--dry-run", "train_all")
    tasks = set(re.findall(r"^Job \d+: (\S+)$", out, flags=re.MULTILINE))
    assert tasks == {"data", "tokenizer", "tokens", "train/ratio2", "train/ratio4"}
    out = snakemake(project, "--dry-run", "sample_all", "metrics_all")
    tasks = set(re.findall(r"^Job \d+: (\S+)$", out, flags=re.MULTILINE))
    assert tasks == {task.name for task in smoke if task.stage not in ("likelihood", "report")}


def test_nothing_is_planned_when_all_is_made(made: Path) -> None:
    assert planned(made) == set()


def test_clone_has_nothing_to_do_whatever_its_times_are(made: Path) -> None:
    generator = random.Random(0)
    shutil.rmtree("results/artifacts")
    for _ in range(2):
        shutil.rmtree(".pcb")
        shutil.rmtree(".snakemake", ignore_errors=True)
        for path in [*made.glob("results/**/*"), *made.glob("reports/**/*")]:
            os.utime(path, (generator.randrange(2**31),) * 2)
        assert planned(made) == set()


def test_learning_rate_plans_that_model_and_the_report(made: Path, smoke: Pipeline) -> None:
    set_learning_rate(made, "ratio4", 4)
    assert planned(made) == {*of_model(smoke, "ratio4"), "report"}


def test_clone_without_data_says_what_to_fetch(made: Path) -> None:
    shutil.rmtree("results/artifacts")
    set_learning_rate(made, "ratio4", 4)
    out = failure(made)
    assert "missing; train/ratio4 reads it; fetch it with `dvc pull results/artifacts/smoke/" in out
    assert "pcb: 1 failed; the same command resumes from here" in out


def force_other(task: Task, pipeline: Pipeline) -> None:
    def other(job: object) -> dict[str, object]:
        write_atomic(task.artifact / "key.txt", "another result")
        return {}

    run_task(task, pipeline.preset, other, force=True)


def test_forced_training_with_another_result_plans_its_readers(made: Path, smoke: Pipeline) -> None:
    train = smoke.task("train", "ratio2")
    run_task(train, smoke.preset, write_key, force=True)
    assert planned(made) == set()
    force_other(train, smoke)
    assert planned(made) == {*of_model(smoke, "ratio2"), "report"} - {train.name}


def test_going_back_to_old_settings_and_manifests_without_the_data_is_refused(
    made: Path,
) -> None:
    shutil.copytree("results/manifests", "old")
    before = Path("params.yaml").read_text()
    set_learning_rate(made, "ratio4", 4)
    make_all(pipeline_of("smoke", made / "params.yaml"))
    assert planned(made) == set()
    Path("params.yaml").write_text(before)
    shutil.rmtree("results/manifests")
    shutil.copytree("old", "results/manifests")
    out = failure(made, "--dry-run")
    assert re.search(r"^pcb: \S+/ratio4\S* \(and \d+ more\): holds another version", out, re.M)
    assert "`dvc checkout`" in out


def test_deleted_page_plans_the_report(made: Path) -> None:
    (made / "reports" / "smoke" / "claims.json").unlink()
    assert planned(made) == {"report"}


def test_wrong_setting_is_refused_before_anything_runs(project: Path) -> None:
    edit_params(project, "renderings: 16", "renderings: none")
    out = failure(project, preset="mini")
    lines = [line for line in out.splitlines() if line.startswith("pcb: ")]
    assert lines == [
        "pcb: params.yaml: presets.mini.data.renderings = 'none': expected `int`, got `str`"
    ]
    assert "Traceback" not in out
