"""The parts of training: ways that give the same, and leave no trace behind."""

import pytest
import torch

from benchmarks.measure import FAST
from benchmarks.training import random_objective, step_part, taken, ways
from pcb.config import Compute

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
    assert list(case.variants) == [FAST, "recomputed", "halves"]
    assert case.items == 2
    check(case, 1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-2), ("bfloat16", 1e-1)])
def test_every_way_on_a_gpu_gives_the_same(precision, tolerance):
    case = step_part("mini", 4, precision).make(torch.device("cuda"))
    assert list(case.variants) == list(ways(4, gpu=True))
    check(case, tolerance)


def test_a_way_is_taken_while_it_is_measured_and_no_longer():
    objective = random_objective("mini", 3, CPU)
    objective.loss.tiled = True  # As on a GPU.
    before = seen(objective)
    way = Compute(recompute=True, micro_batch=2, compile=False)
    with pytest.raises(ZeroDivisionError), taken(way, objective):
        assert seen(objective) == (True, way, False)
        raise ZeroDivisionError
    assert seen(objective) == before == (False, Compute(), True)
    with taken(Compute(attention="dense"), objective):
        assert not objective.loss.tiled


def seen(objective):
    return objective.model.recompute, objective.compute, objective.loss.tiled
