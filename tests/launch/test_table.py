"""`pcb jobs`: recorded jobs, shown once and again, and canceled."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pcb.cli.main import main
from pcb.launch.outcome import log_of
from pcb.launch.record import Record, Submitted, all_records
from pcb.pipeline.job import ALL_SHARDS, ShardGroup
from tests.launch.conftest import StandIn
from tests.tasks import ROOT, pipeline_of

PIPELINE = pipeline_of()
NAMES = ("sample/ratio2/t9", "sample/ratio2/t17")
TABLE = """\
task               preset  job  part          try  state       node    progress
sample/ratio2/t17  smoke   9    task 2 of 2   1    RUNNING     node07  waits for its turn in the job
sample/ratio2/t9   smoke   9    task 1 of 2   1    RUNNING     node07  images 32/64 50%  0:10 left
tokens             smoke   7_1  group 2 of 3  2    PENDING
train/ratio2       smoke   ?    all           1    SUBMITTING
2 running, 1 pending, 1 submitting
"""


@pytest.fixture
def recorded(folder: Path, stand_in: StandIn) -> Path:
    """Return a folder with records of four tasks, on a cluster that knows two of their jobs."""
    shared = Submitted(
        name="pcb-sample-chunk-0", job_id="9", folder="9", shards=ALL_SHARDS, tasks=NAMES
    )
    for name in NAMES:
        stage, _, variant = name.partition("/")
        Record.of(PIPELINE.task(stage, variant), (shared,)).write()
    group = Submitted(
        name="pcb-tokens-1", job_id="7_1", folder="7", shards=ShardGroup(1, 3), tries=2
    )
    Record.of(PIPELINE.task("tokens"), (group,)).write()
    named = Submitted(name="pcb-train-2", folder="2", shards=ALL_SHARDS)
    Record.of(PIPELINE.task("train", "ratio2"), (named,)).write()
    Record.of(PIPELINE.task("train", "ratio4")).write()
    log_of(shared).parent.mkdir()
    log_of(shared).write_text("submitit INFO\nsample/ratio2/t9: images 32/64 50%  0:10 left\n")
    stand_in("squeue", "echo '9|RUNNING|node07|None'; echo '7_1|PENDING||Priority'")
    stand_in("scancel", 'echo "$2" >> canceled')
    return folder


def test_a_line_a_job_with_its_progress(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs"]) == 0
    assert capsys.readouterr().out == TABLE


def test_watching_ends_with_the_last_job(
    recorded: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the second look the jobs are gone, records and all, as when their controllers end."""
    stand_in("squeue", "echo '9|RUNNING|node07|None'; rm -r .pcb")
    assert main(["jobs", "--watch", "0.01"]) == 0
    out = capsys.readouterr().out
    assert out.count("sample/ratio2/t9 ") == 1
    assert out.endswith("no jobs were submitted from this folder, or all are done\n")


WORKFLOW = """
import os, select, subprocess, sys
os.environ["PCB_TABLE"] = str(os.getpid())
command = [sys.executable, "-m", "pcb", "jobs", "--watch", "0.1"]
watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
for _ in range(8):
    print(watcher.stdout.readline(), end="", flush=True)
print("more" if select.select([watcher.stdout], [], [], 1)[0] else "no more")
"""


def test_beside_a_workflow_it_comes_once_and_ends_with_the_workflow(recorded: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKFLOW],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"\n{TABLE}\nno more\n"


def test_cancelled_task_takes_along_what_shares_its_job(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "--cancel", NAMES[0]]) == 0
    assert re.findall(r"^(\S+): 1 jobs canceled$", capsys.readouterr().out, re.MULTILINE) == [
        NAMES[1],
        NAMES[0],
    ]
    assert Path("canceled").read_text() == "pcb-sample-chunk-0\n"
    assert {record.task for record in all_records()} == {"tokens", "train/ratio2", "train/ratio4"}


def test_nothing_to_cancel_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "--cancel", "train/ratio2"]) == 1
    assert "no jobs of train/ratio2 to cancel" in capsys.readouterr().err
