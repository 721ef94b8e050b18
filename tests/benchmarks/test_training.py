"""The parts of training: ways that give the same, and leave no trace behind."""

import pytest
import torch

from benchmarks import training
from benchmarks.measure import FAST
from benchmarks.training import _EVERYWHERE, _ON_GPU, Way, step_part, taken
from pcb.train import loss

CPU = torch.device("cpu")


def check(case, tolerance):
    for run in case.variants.values():
        run()
    differences = case.differences()
    assert {FAST, *differences} == set(case.variants)
    for name, difference in differences.items():
        assert difference["loss"] < tolerance, name
        assert difference["gradient"] < tolerance, name


def test_every_way_on_a_cpu_gives_the_same():
    case = step_part("mini", 2).make(CPU)
    assert list(case.variants) == list(_EVERYWHERE)
    assert case.items == 2
    check(case, 1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-2), ("bfloat16", 1e-1)])
def test_every_way_on_a_gpu_gives_the_same(precision, tolerance):
    case = step_part("mini", 4, precision).make(torch.device("cuda"))
    assert list(case.variants) == list(_EVERYWHERE | _ON_GPU)
    check(case, tolerance)


def test_a_way_is_taken_while_it_is_measured_and_no_longer(monkeypatch):
    monkeypatch.setattr(loss, "PART_LOGITS", 7)
    made = []
    monkeypatch.setattr(
        training, "TransformerObjective", lambda **parts: made.append(Kept(**parts)) or made[0]
    )
    step_part("mini", 3).make(CPU)
    objective = made[0]
    before = seen(objective)
    way = Way(recompute=True, micro_batches=2, logits_in_parts=False)
    with pytest.raises(ZeroDivisionError), taken(way, objective):
        assert seen(objective) == (True, 2, torch.iinfo(torch.int64).max)
        raise ZeroDivisionError
    assert seen(objective) == before == (False, None, 7)


class Kept(training.TransformerObjective):
    """An objective that a test can look at."""


def seen(objective):
    return objective.model.recompute, objective.compute.micro_batch, loss.PART_LOGITS
