import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcb.pipeline.tasks import Pipeline
from pcb.pipeline.workflow import Plan, hold_workflow, load_plan, recap
from tests.units import ROOT

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
