"""Parts of the stage `train`: optimizer steps, what each way of computing them is worth, ranks."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from multiprocessing import get_context

import torch
from msgspec.structs import replace
from torch import Tensor
from torch.nn.utils import get_total_norm

from benchmarks.machine import Phase
from benchmarks.measure import BASELINE, CPU, FAST, Case, Part, Precision, peak_memory, single
from benchmarks.sampling import RUNS, random_model
from benchmarks.stages import RandomCache
from pcb.config import Compute
from pcb.config.loader import load_preset
from pcb.preflight import flops
from pcb.preflight.rates import Kind
from pcb.runtime.pool import in_order
from pcb.runtime.ranks import join_ranks
from pcb.runtime.rendezvous import variables_of_ranks
from pcb.train.batches import Batch
from pcb.train.transformer import TransformerObjective, objective_of

_IMAGES, _CROPS, SHARED = 1024, 2, 16
"""Images of the cache, crops of each, and images of the batch that ranks share."""
Found = tuple[Tensor, list[Tensor]]
"""Losses of a batch's tokens, (T,), and the gradients of all parameters."""


def ways(batch: int, *, gpu: bool) -> dict[str, Compute]:
    """Return the ways in which a step can be computed, the program's own first."""
    found = {FAST: Compute(), "recomputed": Compute(recompute=True)}
    if batch > 1:
        found["halves"] = Compute(micro_batch=-(-batch // 2))
    if gpu:
        found |= {
            "dense-mask": Compute(attention="dense"),
            "uncompiled": Compute(compile=False),
            "batch-in-step": Compute(prefetch=0),
            BASELINE: Compute(compile=False, prefetch=0),
        }
    return found


def parts(device: torch.device) -> Iterator[Part]:
    """Yield steps of the paper's batches and of longer sequences on a GPU, small ones on a CPU."""
    if device.type == "cuda":
        yield step_part("S-2x", 128, "bfloat16", kind="training")
        yield step_part("L-2x", 64, "bfloat16", kind="training")
        for grid, batch in ((32, 32), (64, 8)):
            yield step_part("S-2x", batch, "bfloat16", grid=grid)
    else:
        # A step of one image is nearly all overhead: what the arithmetic of 16 has to outweigh.
        yield step_part("mini", 1)
        yield step_part("mini", 16)
        yield step_part("S-2x", 1)


def step_part(
    run: str, batch: int, precision: Precision = "float32", grid: int = 0, kind: Kind | None = None
) -> Part:
    """Return the part of a run's steps in every way; `grid` tokens per side at the finest scale."""

    def make(device: torch.device) -> Case:
        torch._dynamo.reset()  # Graphs of other parts count against the same limit.
        objective = random_objective(run, batch, device, precision, grid)
        some, computed = objective.batch(0).to(device), ways(batch, gpu=objective.loss.tiled)
        model, codes = objective.model, load_preset(RUNS[run][0]).tokenizer.autoencoder
        # Products forwards and backwards, attention as if dense; then AdamW, which reads weights,
        # gradients and both moments, and writes all but the gradients, in float32.
        products = batch * flops.training_step(model.settings, codes, model.sizes)
        moved = 7 * 4 * model.num_parameters()

        def output(way: Compute) -> tuple[Found, int | None]:
            """Return what `results_of` does, and the peak memory of doing it again."""
            again = partial(results_of, objective, way, some)
            return again(), peak_memory(again, device)[1]

        return Case(
            variants={name: _steps(objective, way) for name, way in computed.items()},
            items=batch,
            phases=[Phase(flops=products), Phase(bytes=moved)],
            width=model.settings.width,
            compare=_compare,
            outputs={name: partial(output, way) for name, way in computed.items()},
        )

    name = f"training/{run}{f'-{grid}x{grid}' if grid else ''}/b{batch}"
    return Part(name, make, precision=precision, kind=kind)


def random_objective(
    run: str, batch: int, device: torch.device, precision: Precision = "float32", grid: int = 0
) -> TransformerObjective:
    """Return the objective of one of `RUNS` with random weights on random codes.

    batch: images of all ranks, which the environment names. grid: as `random_model` takes it.
    """
    preset, model, _ = random_model(run, device, grid=grid)
    training, codes = preset.models[RUNS[run][1]].training, len(model.codebook_VC)
    assert training is not None
    # As many images per schedule as in the run itself.
    schedules = max(1, round(training.schedules * batch / training.batch_size))
    settings = replace(training, batch_size=batch, schedules=schedules, precision=precision)
    cache, ranks = RandomCache(model.sizes, _IMAGES, _CROPS, codes), join_ranks(device, batch)
    return objective_of(model.train().requires_grad_(), cache, settings, Compute(), ranks)


def _steps(objective: TransformerObjective, way: Compute) -> Callable[[], None]:
    """Return a call that takes a step on the next batch, in one way."""
    pool = ThreadPoolExecutor(max(1, way.prefetch))
    batches = enumerate(in_order(pool, objective.batch, count(), way.prefetch))

    def step() -> None:
        iteration, batch = next(batches)
        with taken(way, objective):
            objective.step(iteration, batch)

    return step


@contextmanager
def taken(way: Compute, objective: TransformerObjective) -> Iterator[None]:
    """Compute in one way for a while."""
    usual, tiled, eager = objective.compute, objective.loss.tiled, way.compile is False
    objective.compute, objective.model.recompute = way, way.recompute
    objective.loss.tiled = tiled and not eager and way.attention != "dense"
    try:
        with torch.compiler.set_stance("force_eager") if eager else nullcontext():
            yield
    finally:
        objective.compute, objective.model.recompute = usual, usual.recompute
        objective.loss.tiled = tiled


def results_of(objective: TransformerObjective, way: Compute, batch: Batch) -> Found:
    """Return losses and gradients of a batch, computed in one way."""
    objective.optimizer.zero_grad(set_to_none=True)
    with taken(way, objective):
        losses_T = objective.backward(batch)
    return losses_T, [p.grad for p in objective.model.parameters() if p.grad is not None]


def _compare(first: tuple[Found, int | None], other: tuple[Found, int | None]) -> dict[str, float]:
    """Return how far losses and gradients are from the first way's.

    loss: largest difference of a token's, in nats. gradient: norm of the difference, as a fraction
    of the first one's norm. memory: its peak, as a multiple of the first one's.
    """
    (losses_T, gradients), peak = first
    (other_losses_T, other_gradients), other_peak = other
    apart = get_total_norm(torch._foreach_sub(other_gradients, gradients))
    return {
        "loss": float((other_losses_T - losses_T).abs().max()),
        "gradient": float(apart / get_total_norm(gradients)),
    } | ({"memory": other_peak / peak} if peak and other_peak else {})


def step_of_ranks(world: int, _: torch.device) -> Case:
    """Take steps of the miniature as the first of so many processes that share a batch.

    The others step as often as they are let: gradients are averaged, so none is ahead of another.
    """
    own, *others = variables_of_ranks(world)
    for variables in others:
        # A daemon: it ends when this process does.
        process = get_context("spawn").Process(target=_join, args=(variables, True), daemon=True)
        process.start()
    return single(_join(own), SHARED)


def _join(variables: Mapping[str, str], follow: bool = False) -> Callable[[], None]:
    """Return a call that takes this rank's next step; or `follow` the others for good."""
    os.environ.update(variables)
    torch.set_num_threads(1)
    step = _steps(random_objective("mini", SHARED, CPU), Compute(prefetch=0))
    while follow:
        step()
    return step
