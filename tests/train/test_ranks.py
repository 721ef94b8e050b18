"""Several ranks train what one does: the same batches, shared out, and averaged gradients."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pcb.device import pick_device
from pcb.errors import UserError
from pcb.settings import Compute
from pcb.train.ranks import Ranks, join_ranks
from tests.train.tokens import write_tokens
from tests.units import ROOT

PROGRAM = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from pcb.data.shards import TokenCache
from pcb.model.transformer import Transformer
from pcb.progress import Progress
from pcb.settings import Model, Training
from pcb.train.batches import Batches
from pcb.train.loop import Trainer
from pcb.train.ranks import join_ranks, leave_ranks

tokens, folder = map(Path, sys.argv[1:])
torch.set_num_threads(1)
settings = Training(epochs=6, batch_size=8, learning_rate=1e-3, precision="float32")
ranks = join_ranks(torch.device("cpu"), settings.batch_size)
torch.manual_seed(0)
codebook = torch.nn.functional.normalize(torch.randn(64, 8), dim=-1)
model = Transformer(Model(width=32, layers=2, heads=2, hidden=64), (1, 2, 4), 10, codebook)
batches = Batches(TokenCache(tokens, (1, 2, 4)), settings, num_classes=10, codebook_size=64)
trainer = Trainer(model=model, batches=batches, settings=settings, folder=folder, ranks=ranks)
with Progress("train", "iterations", batches.iterations) as progress:
    trainer.run(progress, 1000)
leave_ranks(ranks)
save_file(model.state_dict(), folder / f"rank{ranks.rank}.safetensors")
print(trainer.log[-1]["loss"])
"""


def train(tokens: Path, folder: Path, world: int) -> list[float]:
    """Train with so many ranks; return each rank's last logged loss."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tokens), str(folder)],
            cwd=ROOT,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    outs = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world
    return [float(out.split()[-1]) for out in outs]


def test_two_ranks_train_what_one_does(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens", images=32, crops=2)
    one = train(tmp_path / "tokens", tmp_path / "one", 1)
    two = train(tmp_path / "tokens", tmp_path / "two", 2)
    assert two == pytest.approx(one * 2, abs=1e-5)
    alone = load_file(tmp_path / "one" / "rank0.safetensors")
    first, second = (load_file(tmp_path / "two" / f"rank{k}.safetensors") for k in (0, 1))
    moved = 0.0
    for name, tensor in alone.items():
        torch.testing.assert_close(first[name], tensor, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(first[name], second[name], atol=0, rtol=0)
        moved += float(tensor.abs().sum())
    assert moved > 0


def test_one_rank_changes_nothing() -> None:
    ranks = Ranks()
    assert ranks.first
    assert ranks.average_gradients([], stop=True) is True
    values = torch.arange(3.0)
    assert ranks.mean(values) is values


def test_batch_that_cannot_be_dealt_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="not a multiple of the 3 ranks"):
        join_ranks(pick_device(Compute(device="cpu")), 8)
