"""Submission to a cluster: settings from two files, and the script that sbatch gets."""

import re
from pathlib import Path

import msgspec
import pytest
from submitit.core.utils import DelayedSubmission

from pcb.config import Cluster, Resources
from pcb.config.loader import load_cluster
from pcb.errors import UserError
from pcb.launch.record import Record, Submitted, all_records, read_record
from pcb.launch.split import ranks_per_node
from pcb.launch.submit import announce, submit
from pcb.launch.work import Work
from pcb.pipeline.job import ALL_SHARDS, ShardGroup
from tests.launch.conftest import StandIn
from tests.tasks import ROOT, pipeline_of

RECORDED = """\
#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --constraint=h100
#SBATCH --cpus-per-task=8
#SBATCH --error=FOLDER/%j_0_log.err
#SBATCH --gpus-per-node=4
#SBATCH --job-name=pcb-train-ratio2-0a1b2c3d
#SBATCH --mem=524288M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --reservation=spring
#SBATCH --signal=USR2@120
#SBATCH --time=1440
#SBATCH --wckey=submitit

# setup
module load cuda
here=FOLDER
taken=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
taken="$here/${taken:-$SLURM_JOB_ID}_submitted.pkl"
[ -e "$taken" ] || cp "$here/work-${SLURM_ARRAY_TASK_ID:-0}.pkl" "$taken"

# command
export SUBMITIT_EXECUTOR=slurm
"""
COMMAND = (
    "srun --unbuffered --output FOLDER/%j_%t_log.out --error FOLDER/%j_%t_log.err"
    " --kill-on-bad-exit=1 --cpus-per-task=8"
    " apptainer exec --nv pcb.sif python -u -m submitit.core._submit FOLDER"
)


def test_script_of_a_training_on_two_nodes_is_the_recorded_one(
    tmp_path: Path, stand_in: StandIn
) -> None:
    resources = Resources(nodes=2, gpus=4, cpus=8, memory_gb=512, hours=24)
    cluster = Cluster(
        partition="gpu",
        account="lab",
        qos="high",
        constraint="h100",
        setup=("module load cuda",),
        sbatch={"reservation": "spring"},
        python="apptainer exec --nv pcb.sif python",
        signal_seconds=120,
        stages={"train": resources},
    )
    stand_in("srun", "exit 1")
    stand_in("sbatch", f'cp "$1" {tmp_path}/script; echo Submitted batch job 12')
    task = pipeline_of().task("train", "ratio2")
    named = msgspec.structs.replace(
        announce(task, [ALL_SHARDS])[0],
        name="pcb-train-ratio2-0a1b2c3d",
        folder=str(tmp_path / "x"),
    )
    (job,) = submit("train", [named], [Work.on(task)], cluster)
    assert job == msgspec.structs.replace(named, job_id="12")
    script = (tmp_path / "script").read_text()
    assert script.replace(named.folder, "FOLDER").strip() == RECORDED + COMMAND
    # The work is there before the cluster is asked, and again where submitit looks for it.
    for name in ("work-0.pkl", "12_submitted.pkl"):
        assert DelayedSubmission.load(tmp_path / "x" / name).function == Work.on(task)


def test_stages_but_training_take_one_process() -> None:
    resources = Resources(gpus=4, ranks=2)
    assert ranks_per_node("train", resources) == 4
    assert ranks_per_node("train", Resources(ranks=2)) == 2
    assert ranks_per_node("sample", resources) == 1


def test_local_file_overrides_key_by_key(tmp_path: Path) -> None:
    params, local = tmp_path / "params.yaml", tmp_path / "params.local.yaml"
    params.write_text((ROOT / "params.yaml").read_text())
    tries = load_cluster(params).tries
    local.write_text("cluster: {partition: gpu, stages: {train: {hours: 24}}}\n")
    cluster = load_cluster(params)
    assert (cluster.partition, cluster.tries) == ("gpu", tries)
    assert cluster.resources("train").hours == 24
    assert cluster.resources("data") == cluster.default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster: {partitoin: gpu}", "did you mean `partition`"),
        ("cluster: {tries: 0}", "cluster.tries = 0"),
        ("cluster: {stages: {sample: {array: 2, chunk: 2}}}", "sample: array cuts tasks up"),
        ("cluster: {stages: {train: {chunk: 2}}}", "train.chunk: expected for sample, metrics"),
        ("cluster: {on_interrupt: stay}", "cluster.on_interrupt = 'stay'"),
        ("presets: {}", "expected `cluster` and `files` alone"),
    ],
)
def test_wrong_facts_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    params = tmp_path / "params.yaml"
    params.write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "params.local.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load_cluster(params)


def test_records_are_read_back_and_damaged_ones_count_as_none(folder: Path) -> None:
    task = pipeline_of().task("train", "ratio2")
    job = Submitted(
        name="pcb-train-0", job_id="7_1", folder="here", shards=ShardGroup(1, 2), tries=2
    )
    record = Record.of(task, (job,))
    record.write()
    assert read_record(record.path) == record
    assert list(all_records()) == [record]
    # What a controller that was killed while it wrote leaves behind.
    record.path.with_name(f".123.{record.path.name}").write_bytes(record.path.read_bytes())
    assert list(all_records()) == [record]
    record.path.write_text("{")
    assert read_record(record.path) is None
    assert list(all_records()) == []


def test_launcher_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pcb.pipeline.execution import launcher_of

    monkeypatch.setenv("PCB_LAUNCHER", "moon")
    with pytest.raises(UserError, match="there are debug, local, slurm"):
        launcher_of("train")
    monkeypatch.setenv("PCB_LAUNCHER", "slurm")
    assert (launcher_of("train"), launcher_of("report")) == ("slurm", "debug")


def test_what_ctrl_c_does_can_be_said_for_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_cluster(ROOT / "params.yaml").on_interrupt == "ask"
    monkeypatch.setenv("PCB_ON_INTERRUPT", "cancel")
    assert load_cluster(ROOT / "params.yaml").on_interrupt == "cancel"
    monkeypatch.setenv("PCB_ON_INTERRUPT", "stay")
    with pytest.raises(UserError, match="cluster.on_interrupt = 'stay'"):
        load_cluster(ROOT / "params.yaml")
