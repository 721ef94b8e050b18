import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest

from pcb.cli.main import main
from pcb.pipeline.tasks import Pipeline
from pcb.pipeline.workflow import Plan, hold_workflow, load_plan, recap
from tests.tasks import ROOT, make_all
from tests.workflow.snakemake import copy_project, failure, planned

HOLD = """
import sys, time
from pcb.pipeline.workflow import hold_workflow
hold_workflow()
print("held", flush=True)
time.sleep(60)
"""


def plan_of(folder: Path, preset: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setenv("PCB_PRESET", preset)
    return load_plan()


def test_inputs_are_the_staleness_file_and_the_manifests_that_a_task_reads(
    folder: Path, smoke: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(folder, "smoke", monkeypatch)
    watched, ordered = plan.inputs("train", "ratio2")
    manifests = "results/manifests/smoke"
    assert watched == {
        "staleness": ".pcb/staleness/smoke/train/ratio2.json",
        "tokenizer": f"{manifests}/tokenizer/all.json",
    }
    assert ordered == {"tokens": f"{manifests}/tokens/all.json"}
    report, _ = plan.inputs("report", "all")
    assert report["metrics"] == plan.manifests("metrics")
    assert plan.manifest("train", "{model}") == f"{manifests}/train/{{model}}.json"


def test_wrong_settings_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^pcb: params\.yaml: no preset 'none'; there are mini"):
        plan_of(folder, "none", monkeypatch)


def test_wrong_launcher_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCB_LAUNCHER", "moon")
    with pytest.raises(SystemExit, match=r"^pcb: LAUNCHER=moon: no such launcher; there are debug"):
        plan_of(folder, "smoke", monkeypatch)


def test_damaged_manifest_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(folder, "smoke", monkeypatch)
    path = Path(plan.manifest("data"))
    path.parent.mkdir(parents=True)
    path.write_text("<<<<<<< HEAD")
    with pytest.raises(SystemExit, match=f"^pcb: {path}: not a manifest"):
        plan.sync_times()


def test_second_run_is_refused_until_the_first_is_dead(folder: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)})
    assert first.stdout is not None
    assert first.stdout.readline() == b"held\n"
    with pytest.raises(SystemExit, match=f"^pcb: process {first.pid} is running the workflow"):
        hold_workflow()
    first.kill()
    first.wait()
    time.sleep(0.05)
    hold_workflow()


def test_recap_names_each_failed_log_and_its_last_line(folder: Path) -> None:
    log = folder / "snakemake.log"
    log.write_text(
        "Error in rule train:\n    jobid: 7\n    log: a.log (check log file(s) for error details)\n"
        "Error in rule sample:\n    log: b.log (check log file(s) for error details)\n"
        "Error in rule train:\n    log: a.log (check log file(s) for error details)\n"
    )
    (folder / "a.log").write_text("train/a: 10 iterations\npcb: no space left\n\n")
    assert recap([log]).splitlines() == [
        "pcb: 2 failed; the same command resumes from here",
        "  a.log: pcb: no space left",
        "  b.log: (no log)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "train/a: iterations 5/10 50%  1.2/s\n",
            "killed, perhaps for want of memory, at: train/a:",
        ),
        ("", "killed, perhaps for want of memory, before it said anything"),
        ("pcb: warning: odd\ntrain/a: 5/10\n", "killed, perhaps for want of memory, at: train/a"),
        ("train/a: 5/10\nTraceback (most recent call last):\n  x\nKeyError: 1\n", "KeyError: 1"),
        ("pcb: job 3 failed\n  log: a\n  alone: pcb train a\n", "  alone: pcb train a"),
    ],
)
def test_recap_says_of_a_task_without_last_words_that_it_was_killed(
    folder: Path, text: str, said: str
) -> None:
    log = folder / "snakemake.log"
    log.write_text("Error in rule train:\n    log: a.log (check log file(s) for error details)\n")
    (folder / "a.log").write_text(text)
    assert recap([log]).splitlines()[1].startswith(f"  a.log: {said}")


def test_recap_without_failed_rules_points_to_the_log(folder: Path) -> None:
    (folder / "snakemake.log").write_text("something else")
    assert recap([Path("snakemake.log")]) == "pcb: the workflow failed; see snakemake.log"


def test_every_manifest_is_a_target(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is missing between others that are there is made again."""
    plan = plan_of(folder, "smoke", monkeypatch)
    assert {str(task.manifest) for task in plan.pipeline} <= set(plan.targets)
    assert "reports/smoke/index.html" in plan.targets


@pytest.mark.workflow
def test_a_manifest_that_was_deleted_is_made_again(tmp_path: Path, smoke: Pipeline) -> None:
    project = copy_project(tmp_path / "project")
    with chdir(project):
        make_all(smoke)
        assert planned(project) == set()
        smoke.task("train", "ratio4").manifest.write_text("{")
        assert "delete it to make the result again" in failure(project, "--dry-run")
        smoke.task("train", "ratio4").manifest.unlink()
    assert "train/ratio4" in planned(project)
    assert "train/ratio2" not in planned(project)


def test_what_may_not_have_been_meant_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(folder, "smoke", monkeypatch)
    plan.sync_times()
    assert capsys.readouterr().err == ""
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(
        text.replace("ratio3: null", "ratio5: {model: {scale_ratio: 5}}", 1)
    )
    (folder / "elsewhere").mkdir()
    (folder / "reports").symlink_to("elsewhere")
    load_plan().sync_times()
    said = capsys.readouterr().err
    assert "pcb: warning: model ratio5 is in no sweep: it is made, and nothing is sampled" in said
    assert "pcb: warning: reports is a symbolic link" in said


@pytest.mark.parametrize("time", [1, 2])
def test_slurm_where_there_is_none_is_one_line(
    folder: Path, smoke: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys, time: int
) -> None:
    plan_of(folder, "smoke", monkeypatch)
    make_all(smoke)
    monkeypatch.setenv("PCB_LAUNCHER", "slurm")
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(SystemExit, match="^pcb: LAUNCHER=slurm: this machine has no `sbatch`;"):
        load_plan()
    for _ in range(time):
        assert main(["train", "ratio2", "--preset", "smoke", "--force"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pcb: LAUNCHER=slurm: this machine has no `sbatch`;")
    assert not (folder / ".pcb" / "jobs").exists()
