"""Processes of one machine: a GPU each, and an end for all when one fails. No pipeline is run."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from pcb.config import Cluster, Resources
from pcb.errors import UserError
from pcb.launch import local
from pcb.launch.outcome import Outcome, outcome_of
from pcb.launch.record import Submitted
from pcb.launch.work import Work
from pcb.pipeline.job import ALL_SHARDS
from pcb.runtime import gpus
from pcb.runtime.rendezvous import variables_of_ranks
from tests.launch.stand_ins import WRONG, Talkative, WrongOnSecond
from tests.tasks import ROOT, pipeline_of

TRAIN = pipeline_of().task("train", "ratio2")
SAMPLE = pipeline_of().task("sample", "ratio2/t17")


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [(None, ["0", "1"]), ("", []), ("-1", []), ("3,5", ["3", "5"]), ("GPU-8a", ["GPU-8a"])],
)
def test_gpus_that_a_process_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, seen: list[str]
) -> None:
    for name in ("nvidia0", "nvidia7", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    assert gpus.visible_gpus({} if chosen is None else {gpus.VISIBLE: chosen}) == seen


@pytest.mark.parametrize(
    ("chosen", "waves"),
    [
        ("", [[None] * 5]),
        ("0", [["0"]] * 5),
        ("2,3", [["2", "3"], ["2", "3"], ["2"]]),
        ("0,1,2,3,4,5,6,7", [["0", "1", "2", "3", "4"]]),
    ],
)
def test_each_group_of_shards_has_a_gpu_and_none_waits_for_another_on_it(
    monkeypatch: pytest.MonkeyPatch, chosen: str, waves: list[list[str | None]]
) -> None:
    ran: list[tuple[list[Any], list[str | None]]] = []

    def run(task: object, works: list[Work], variables: list[dict[str, str]]) -> None:
        ran.append(([work.shards for work in works], [own.get(gpus.VISIBLE) for own in variables]))

    monkeypatch.setattr(local, "already_made", lambda task: False)
    monkeypatch.setattr(local, "_run", run)
    monkeypatch.setenv(gpus.VISIBLE, chosen)
    local.run_locally(SAMPLE, Cluster(stages={"sample": Resources(array=5)}), force=False)
    *made, last = ran
    assert [numbers for _, numbers in made] == waves
    assert len({str(shards) for group, _ in made for shards in group}) == 5
    # What seals the task sees all of them.
    assert last[1] == [None]


def test_a_rank_that_fails_ends_the_others_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    begun = time.monotonic()
    with pytest.raises(UserError) as caught:
        local._run(TRAIN, [WrongOnSecond()] * 2, variables_of_ranks(2))  # type: ignore[list-item]
    assert str(caught.value) == f"train/ratio2: a process ended with 1: {WRONG}"
    assert time.monotonic() - begun < 60


def test_processes_may_say_more_than_a_pipe_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    local._run(TRAIN, [Talkative()] * 2, [{}, {}])  # type: ignore[list-item]


@pytest.mark.parametrize("rank", [0, 1])
def test_in_a_job_of_several_processes_each_can_end_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """By its status, and with its words where the controller looks for those of the first."""

    def make(work: Work) -> None:
        raise UserError(WRONG)

    job = {"JOB_ID": "7", "NTASKS": "2", "PROCID": str(rank), "LOCALID": str(rank), "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path))
    monkeypatch.setattr(Work, "_make", make)
    monkeypatch.chdir(tmp_path)
    submitted = Submitted(
        name="pcb-train-ratio2", job_id="7", folder=str(tmp_path), shards=ALL_SHARDS
    )
    assert outcome_of(submitted, TRAIN.name) is None
    with pytest.raises(SystemExit) as ended:
        Work.on(TRAIN)()
    assert ended.value.code == 1
    assert outcome_of(submitted, TRAIN.name) == Outcome(wrong=WRONG)


def test_in_a_job_of_one_process_words_are_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No failure, which the cluster would try again."""

    def make(work: Work) -> None:
        raise UserError(WRONG)

    monkeypatch.setattr(Work, "_make", make)
    monkeypatch.chdir(tmp_path)
    for executor in (None, "slurm"):
        if executor:
            monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
            monkeypatch.setenv("SLURM_JOB_ID", "7")
            monkeypatch.setenv("SLURM_NTASKS", "1")
        assert Work.on(TRAIN)() == WRONG
    assert not os.listdir(tmp_path)
