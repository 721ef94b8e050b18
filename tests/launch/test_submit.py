"""What is asked of a cluster: settings from two files, and the script that sbatch gets."""

import re
from pathlib import Path

import pytest
import submitit

from pcb.errors import UserError
from pcb.launch.record import Record, Submitted, all_records, read_record, record_path, write_record
from pcb.launch.submit import parameters
from pcb.params import load_cluster
from pcb.settings import Cluster, Resources
from tests.units import ROOT, pipeline_of

RECORDED = """\
#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --constraint=h100
#SBATCH --cpus-per-task=8
#SBATCH --error=FOLDER/%j_0_log.err
#SBATCH --gpus-per-node=4
#SBATCH --job-name=pcb-train-ratio2
#SBATCH --mem=524288M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --signal=USR2@120
#SBATCH --time=1440
#SBATCH --wckey=submitit

# setup
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
"""
COMMAND = (
    "srun --unbuffered --output FOLDER/%j_%t_log.out --error FOLDER/%j_%t_log.err"
    " --kill-on-bad-exit=1 RUN"
)


def test_script_of_a_training_on_two_nodes_is_the_recorded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = Resources(nodes=2, gpus=4, cpus=8, memory_gb=512, hours=24)
    cluster = Cluster(
        partition="gpu",
        account="lab",
        qos="high",
        constraint="h100",
        setup=("module load cuda",),
        signal_seconds=120,
        stages={"train": resources},
    )
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda _: 1))
    executor = submitit.SlurmExecutor(folder=tmp_path)
    executor.update_parameters(**parameters(pipeline_of().unit("train", "ratio2"), cluster))
    text = executor._make_submission_file_text("RUN", "uid")
    assert text.replace(str(tmp_path), "FOLDER").strip() == RECORDED + COMMAND


def test_stages_but_training_take_one_task() -> None:
    resources = Resources(gpus=4, ranks=2)
    assert resources.tasks("train") == 4
    assert Resources(ranks=2).tasks("train") == 2
    assert resources.tasks("sample") == 1


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
    unit = pipeline_of().unit("train", "ratio2")
    job = Submitted(job_id="7_1", folder="here", share=(1, 2), tries=2)
    record = Record(unit=unit.name, preset="smoke", key=unit.key, jobs=(job,))
    write_record(unit, record)
    assert read_record(record_path(unit)) == record
    assert list(all_records()) == [record]
    record_path(unit).write_text("{")
    assert read_record(record_path(unit)) is None
    assert list(all_records()) == []


def test_launcher_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pcb.stages import launcher_of

    monkeypatch.setenv("PCB_LAUNCHER", "moon")
    with pytest.raises(UserError, match="there are debug, local, slurm"):
        launcher_of("train")
    monkeypatch.setenv("PCB_LAUNCHER", "slurm")
    assert (launcher_of("train"), launcher_of("report")) == ("slurm", "debug")
