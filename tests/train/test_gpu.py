"""Training on a GPU: compiled, by tiles, and without waiting for the GPU."""

import numpy as np
import pytest
import torch

from pcb.config import Compute, Training
from pcb.tokenizer.cache import TokenCache
from pcb.train.batches import Batches
from pcb.train.loop import Loop
from pcb.train.transformer import TransformerObjective
from tests.models import tiny_model
from tests.train.tokens import CODES, write_tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
SIZES = (1, 2, 4, 8, 16)
SLOW_WAY = {"compile": False, "attention": "dense", "prefetch": 0}


@pytest.fixture(autouse=True)
def compiler():
    """Graphs belong to the code of layers, not to models: each test begins without any."""
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, images=64, crops=2, sizes=SIZES)
    # Few of the codes, which a few steps learn: random ones would leave losses where they were.
    for path in folder.glob("s*/*.npy"):
        np.save(path, np.load(path) % 8)
    return folder


def objective(tokens, precision, heads=4, **compute):
    training = Training(
        epochs=100, batch_size=16, schedules=2, learning_rate=1e-3, precision=precision
    )
    sizes = {"width": 128, "heads": heads, "hidden": 256, "layers": 4}
    model = tiny_model(codes=CODES, classes=10, sizes=SIZES, init="narrow", **sizes).cuda()
    batches = Batches(TokenCache.open(tokens, SIZES), training, num_classes=10, codebook_size=CODES)
    return TransformerObjective(
        model=model, batches=batches, settings=training, compute=Compute(**compute)
    )


def loop_of(objective, folder):
    loop = Loop(objective=objective, folder=folder, checkpoint_seconds=1e9)
    loop.resume()
    return loop


def take(loop, steps):
    for _ in range(steps):
        loop.step(loop.objective.batch(loop.iteration))


def losses(objective, steps):
    return torch.stack([objective.step(k, objective.batch(k)) for k in range(steps)])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
# Head dims of 32 and 64, as in S and L.
@pytest.mark.parametrize(
    "compute", [{}, {"heads": 2}, {"attention": "dense"}, {"recompute": True}, {"micro_batch": 5}]
)
def test_compiled_training_is_the_same_up_to_rounding(tokens, precision, compute):
    same = {"heads": compute.get("heads", 4)}
    slow = losses(objective(tokens, precision, **same, **SLOW_WAY), 20)
    fast = losses(objective(tokens, precision, **compute), 20)
    tolerance = 1e-3 if precision == "float32" else 3e-2
    torch.testing.assert_close(fast.mean(1), slow.mean(1), atol=tolerance, rtol=tolerance)
    assert slow.mean(1)[-1] < slow.mean(1)[0] - 0.5, "it learns"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_step_never_waits_for_the_gpu(tokens, tmp_path, precision):
    loop = loop_of(objective(tokens, precision), tmp_path)
    take(loop, 3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            take(loop, 1)
            loop._decide()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_goes_on_from_a_checkpoint_with_pending_losses(tokens, tmp_path):
    loop = loop_of(objective(tokens, "bfloat16", **SLOW_WAY), tmp_path)
    take(loop, 3)
    loop.save()
    resumed = loop_of(objective(tokens, "bfloat16", **SLOW_WAY), tmp_path)
    assert (resumed.iteration, resumed._count) == (3, 3)
    for each in (loop, resumed):
        take(each, 1)
    expected, row = loop._row(), resumed._row()
    assert row == pytest.approx(expected, rel=1e-3)


def test_no_run_time_compilation_after_the_first_iterations(tokens):
    """Block sizes change with every iteration, shapes do not."""
    training = objective(tokens, "bfloat16")
    losses(training, 2)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for iteration in range(2, 12):
            training.step(iteration, training.batch(iteration))
