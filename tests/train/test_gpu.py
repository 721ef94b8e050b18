"""What training does on a GPU alone: compiled, by tiles, and without waiting for the GPU."""

import pytest
import torch

from pcb.config import Compute, Training
from pcb.tokenizer.cache import TokenCache
from pcb.train.batches import Batches
from pcb.train.loop import Trainer
from tests.models import tiny_model
from tests.train.tokens import CODES, write_tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
SIZES = (1, 2, 4, 8, 16)
SLOW_WAY = {"compile": False, "attention": "dense", "prefetch": 0}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, images=64, crops=2, sizes=SIZES)
    return folder


def trainer(tokens, folder, precision, heads=4, **compute):
    folder.mkdir()
    training = Training(
        epochs=100, batch_size=16, schedules=2, learning_rate=1e-3, precision=precision
    )
    sizes = {"width": 128, "heads": heads, "hidden": 256, "layers": 4}
    model = tiny_model(codes=CODES, classes=10, sizes=SIZES, init="narrow", **sizes).cuda()
    batches = Batches(TokenCache(tokens, SIZES), training, num_classes=10, codebook_size=CODES)
    return Trainer(
        model=model, batches=batches, settings=training, compute=Compute(**compute), folder=folder
    )


def losses(trainer, steps):
    for iteration in range(steps):
        trainer.step(trainer.batches[iteration])
    return torch.stack(trainer._pending)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
# Head dims of 32 and 64, as in S and L.
@pytest.mark.parametrize(
    "compute", [{}, {"heads": 2}, {"attention": "dense"}, {"recompute": True}, {"micro_batch": 5}]
)
def test_compiled_training_is_the_same_up_to_rounding(tokens, tmp_path, precision, compute):
    same = {"heads": compute.get("heads", 4)}
    slow = losses(trainer(tokens, tmp_path / "a", precision, **same, **SLOW_WAY), 20)
    fast = losses(trainer(tokens, tmp_path / "b", precision, **compute), 20)
    tolerance = 1e-3 if precision == "float32" else 3e-2
    torch.testing.assert_close(fast.mean(1), slow.mean(1), atol=tolerance, rtol=tolerance)
    assert slow.mean(1)[-1] < slow.mean(1)[0] - 0.05, "it learns"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_step_never_waits_for_the_gpu(tokens, tmp_path, precision):
    training = trainer(tokens, tmp_path / "run", precision)
    losses(training, 3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for iteration in range(3, 6):
            training.step(training.batches[iteration])
            training._decide()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_goes_on_from_a_checkpoint_with_pending_losses(tokens, tmp_path):
    training = trainer(tokens, tmp_path / "run", "bfloat16", **SLOW_WAY)
    losses(training, 3)
    training.save()
    losses(training, 1)
    training._write_row()
    assert training.log[-1]["loss"] > 0


def test_no_run_time_compilation_after_the_first_iterations(tokens, tmp_path):
    """Block sizes change with every iteration, shapes do not."""
    training = trainer(tokens, tmp_path / "run", "bfloat16")
    losses(training, 2)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for iteration in range(2, 12):
            training.step(training.batches[iteration])
