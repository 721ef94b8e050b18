"""Several ranks train what one does: the same batches, shared out, and averaged gradients."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pcb.config import Compute
from pcb.errors import UserError
from pcb.runtime.device import pick_device
from pcb.runtime.ranks import Ranks, Vote, join_ranks
from tests.tasks import ROOT
from tests.train import rank
from tests.train.tokens import write_tokens

CASES = (
    {"folder": "whole"},
    # Gradients add up over 1 image and 1 of a schedule, and are averaged after the last.
    {"folder": "in-parts", "micro_batch": 1, "recompute": True},
    {"folder": "interrupted", "stop": 5},
    {"folder": "interrupted-and-resumed", "stop": 5},
    {"folder": "interrupted-and-resumed"},
    # Its mixing weights are none, and get no gradient.
    {"folder": "unmixed", "model": {"layers": 1, "mixing_layers": 0}},
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one rank has trained (`alone`), and two have, in every case."""
    folder = tmp_path_factory.mktemp("trained")
    tokens = folder / "tokens"
    write_tokens(tokens, images=32, crops=2)
    rank.train(tokens, folder / "alone", Ranks())
    assert run_ranks(tokens, folder, CASES) == [0, 0]
    return folder


def run_ranks(tokens: Path, folder: Path, cases: Sequence[object]) -> list[int]:
    """Train by two ranks, case after case; return how they ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "tests.train.rank", str(tokens), str(folder)]
    processes = [
        subprocess.Popen(
            [*command, *map(json.dumps, cases)],
            cwd=ROOT,
            env={**os.environ, **variables, "RANK": str(number), "OMP_NUM_THREADS": "1"},
        )
        for number in range(2)
    ]
    return [process.wait(timeout=240) for process in processes]


def said(folder: Path, number: int = 0) -> dict[str, object]:
    return json.loads((folder / f"rank{number}.json").read_text())


@pytest.mark.parametrize("case", ["whole", "in-parts", "interrupted-and-resumed"])
def test_two_ranks_train_what_one_does(trained: Path, case: str) -> None:
    alone = load_file(trained / "alone" / "rank0.safetensors")
    first, second = (load_file(trained / case / f"rank{k}.safetensors") for k in (0, 1))
    moved = 0.0
    start = rank.tiny_model(codes=64, classes=10, **rank.MODEL).state_dict()
    for name, tensor in alone.items():
        torch.testing.assert_close(first[name], tensor, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(first[name], second[name], atol=0, rtol=0)
        moved += float((tensor - start[name]).abs().sum())
    assert moved > 1
    rows = [said(trained / name)["log"] for name in ("alone", case)]
    for row, expected in zip(*rows, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


def test_a_model_without_mixing_layers_trains_on_two_ranks(trained: Path) -> None:
    assert said(trained / "unmixed")["ended"] == 24


def test_all_ranks_leave_when_one_is_told_to(trained: Path) -> None:
    for number in range(2):
        # Told before the vote of the 5th iteration, which is counted after the 6th.
        left = said(trained / "interrupted", number)
        assert (left["begun"], left["ended"]) == (0, 6)
        resumed = said(trained / "interrupted-and-resumed", number)
        assert (resumed["begun"], resumed["ended"]) == (6, 24)


def test_the_others_end_with_the_first_rank(trained: Path, tmp_path: Path) -> None:
    """One more step would wait for it; a cluster would have to kill them."""
    case = {"folder": "left", "stop": 5, "first": True}
    assert run_ranks(trained / "tokens", tmp_path, [case]) == [rank.ENDED, 0]
    again = {"folder": "left"}
    assert run_ranks(trained / "tokens", tmp_path, [again]) == [0, 0]
    assert [said(tmp_path / "left", k)["begun"] for k in (0, 1)] == [6, 6]


def test_one_rank_changes_nothing() -> None:
    ranks = Ranks()
    assert ranks.first
    module = torch.nn.Linear(1, 1)
    assert ranks.parallel(module) is module
    assert [Vote().outcome(), ranks.vote(2).outcome()] == [0, 2]
    assert [ranks.of_first(answer) for answer in (True, False)] == [True, False]
    values = torch.arange(3.0)
    assert ranks.mean(values) is values
    assert list(range(4))[ranks.own] == [0, 1, 2, 3]


def test_batch_that_cannot_be_dealt_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="not a multiple of the 3 ranks"):
        join_ranks(pick_device(Compute(device="cpu")), 8)
