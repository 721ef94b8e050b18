"""No operator of a recorded step or of a training forward touches the CPU: on pretended tensors.

A CUDA graph records no copy from the host's memory and no wait for the device. Tensors without
memory can say that they lie on a GPU: every operator on them is seen, and where its tensors are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pcb.stages.sample as stage
from pcb.config import Speed
from pcb.config.speed import BASELINE
from pcb.model.inputs import teacher_forced
from pcb.model.layers import AttentionContext
from pcb.model.mask import tiled_mask
from pcb.model.sequence import sequence_of
from pcb.order.schedule import schedule_from_blocks
from pcb.sample.filter import EVERYTHING, GREEDY, Filter
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import PyramidDecoder, sampler_for
from pcb.sample.sampler import Sampler
from pcb.train.loss import cross_entropies, token_losses
from tests.models import tiny_model

CUDA = torch.device("cuda", 0)
SIZES = (1, 2, 4)
WAITING = ("_local_scalar_dense", "nonzero", "item", "equal", "unique", "masked_select")
"""Operators whose result the host has to know."""


class Watch(TorchDispatchMode):
    """Lists operators that touch the CPU's tensors, or for which the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix_products: set[tuple[torch.dtype, torch.dtype]] = set()
        self.touching: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name in WAITING or any(t.device.type == "cpu" for t in tensors):
            self.touching.append(func.name())
        if name == "mm":
            self.matrix_products.add((args[0].dtype, out.dtype))
        return out


class Shapes(TorchDispatchMode):
    """Lists every operator and the shapes of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[object, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        shapes = [tuple(t.shape) for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.seen.append((func.name(), *shapes))
        return out


@pytest.fixture
def pretended(monkeypatch) -> Iterator[None]:
    """Pretend a GPU: copies from the host are operators, seen as such."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    make = torch.tensor

    def tensor(data, *, device=None, **kwargs):
        on_cpu = make(data, **kwargs)
        return on_cpu if device is None else on_cpu.to(device)

    # It copies from the host without telling a dispatch mode.
    monkeypatch.setattr(torch, "tensor", tensor)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@contextmanager
def watched() -> Iterator[Watch]:
    with Watch() as watch:
        yield watch
    assert watch.touching == []


def model_of(dtype, **settings):
    """A model on the pretended GPU, as the stage rounds it."""
    with torch.device(CUDA):
        model = tiny_model(sizes=SIZES, seed=1, mixing_layers=2, codes=64, **settings)
    parts = [part for part in model.children() if part is not model.rotary]
    for module in [module for part in parts for module in part.modules()] + [model]:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().to(dtype))
    assert all(tensor.is_cuda for tensor in model.state_dict().values())
    return model


@pytest.mark.parametrize(
    ("speed", "weight", "dtype", "filter"),
    [
        (Speed(), 0.0, torch.float32, EVERYTHING),
        (Speed(), 1.5, torch.bfloat16, EVERYTHING),
        (Speed(), 1.5, torch.float32, Filter(temperature=0.8, top_k=9, top_p=0.9)),
        (Speed(), 0.0, torch.float16, GREEDY),
        (BASELINE, 0.0, torch.bfloat16, EVERYTHING),
        (BASELINE, 1.5, torch.float32, EVERYTHING),
    ],
)
def test_no_recorded_step_touches_the_cpu(pretended, speed, weight, dtype, filter):
    model = model_of(dtype, head_mlp=True).eval().requires_grad_(False)
    schedule, guidance = schedule_from_blocks(SIZES, 2), Guidance(weight=weight, start_step=2)
    # Without graphs, which a pretended GPU has none of, this is what they would record.
    sampler = Sampler(
        PyramidDecoder(model, schedule, guidance, speed),
        filter=filter,
        graphs=False,
        measure=stage.entropy_and_probability,
    )
    sums = stage.StepSums()
    for images in (3, 3):
        sampler.begin(torch.zeros(images, dtype=torch.int64), torch.zeros(images, model.tokens))
        for step in range(schedule.steps):
            with watched() as watch:
                measured = sampler.step(step)
            # The observer is not recorded, but a copy from the host would make it wait.
            with watched():
                sums.add(step, measured)
            assert {part.device.type for part in measured} == {"cuda"}
            if dtype != torch.float32:  # The head adds up in float32.
                assert (dtype, torch.float32) in watch.matrix_products


def test_storage_and_shapes_are_the_same_for_every_batch(pretended):
    """What a graph reads and writes stays where it is; what it computes has one shape."""
    model = model_of(torch.float32).eval().requires_grad_(False)
    schedule = schedule_from_blocks(SIZES, 2)
    sampler = sampler_for(model, schedule, guidance=Guidance(weight=1.0, start_step=2))
    sampler._with_graphs = False
    seen = []
    for label in (0, 4):
        sampler.begin(torch.full((3,), label), torch.rand(3, model.tokens))
        state = sampler.decoder.state
        storage = [state.codes_BT, state.conditioning_BTC, state.modulations, state.rows.labels_R]
        storage += [sampler.codes_BT, sampler._uniforms_BT, state.cache._keys, state.cache._values]
        with Shapes() as shapes:
            for step in range(schedule.steps):
                sampler.step(step)
        seen.append((storage, shapes.seen))
    (first, shapes), (second, again) = seen
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert shapes == again


def test_no_operator_of_a_training_forward_touches_the_cpu(pretended):
    model = model_of(torch.float32, head_mlp=True)
    sequence = sequence_of(schedule_from_blocks(SIZES, 2)).to(CUDA)
    codes = {size: torch.zeros(2, size, size, dtype=torch.int64, device=CUDA) for size in SIZES}
    labels_B = torch.zeros(2, dtype=torch.int64, device=CUDA)
    with watched():
        inputs, codes_BT = teacher_forced(sequence, labels_B, codes, model.codebook_VC)
        tiled_mask(sequence.blocks_L)
        hidden_BTD = model(inputs, AttentionContext(mask=sequence.mask_LL()))
        losses = token_losses(
            hidden_BTD.flatten(0, 1),
            model.head_weight(),
            model.head.bias,
            codes_BT.flatten(),
            cross_entropies,
        )
    assert losses.requires_grad


def test_a_number_from_the_host_is_found(pretended):
    """What these tests are for: counting by `torch.tensor(n, device=...)` copied from the host."""
    entropy = torch.zeros(3, 4, device=CUDA)
    with Watch() as watch:
        torch.tensor(float(entropy.numel()), dtype=torch.float64, device=entropy.device)
    assert watch.touching
