"""Parts of the stage `train`: optimiser steps, and what each way of computing them is worth."""

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch
from msgspec.structs import replace
from torch import Tensor
from torch.nn.utils import get_total_norm

from benchmarks.bounds import training_phases
from benchmarks.case import BASELINE, FAST, Case, Part, Precision, Scope
from benchmarks.standins import RandomCache, random_model
from benchmarks.timing import peak_memory
from pcb.config import Compute
from pcb.config.loader import load_preset
from pcb.preflight.rates import Kind
from pcb.runtime.pool import in_order
from pcb.runtime.ranks import Ranks
from pcb.train import loss
from pcb.train.batches import Batch, Batches
from pcb.train.transformer import TransformerObjective

_RUNS = {"mini": ("mini", "ratio2"), "S-2x": ("paper", "s-2x"), "L-2x": ("paper", "l-2x")}
_IMAGES, _CROPS = 1024, 2


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How a step is computed; the defaults are as the program does."""

    compiled: bool = True
    tiled: bool = True
    logits_in_parts: bool = True
    batch_ahead: bool = True
    recompute: bool = False
    micro_batches: int = 1


_EVERYWHERE = {FAST: _Way(), "recomputed": _Way(recompute=True), "halves": _Way(micro_batches=2)}
_ON_GPU = {
    "dense-mask": _Way(tiled=False),
    "uncompiled": _Way(compiled=False, tiled=False),
    "logits-whole": _Way(logits_in_parts=False),
    "batch-in-step": _Way(batch_ahead=False),
    BASELINE: _Way(compiled=False, tiled=False, logits_in_parts=False, batch_ahead=False),
}


def parts(scope: Scope) -> Iterator[Part]:
    """Yield steps of the paper's batches and of longer sequences on a GPU, small ones on a CPU."""
    if scope == "full":
        yield _step("S-2x", 128, "bfloat16", kind="training")
        yield _step("L-2x", 64, "bfloat16", kind="training")
        for grid, batch in ((32, 32), (64, 8)):
            yield _step("S-2x", batch, "bfloat16", grid=grid)
    elif scope == "short":
        # A step of one image is nearly all overhead: what the arithmetic of 16 has to outweigh.
        yield _step("mini", 1)
        yield _step("mini", 16)
        yield _step("S-2x", 1)
    else:
        yield _step("mini", 2)


def _step(
    run: str,
    batch: int,
    precision: Precision = "float32",
    *,
    grid: int | None = None,
    kind: Kind | None = None,
) -> Part:
    size = f"-{grid}x{grid}" if grid else ""
    return Part(
        name=f"training/{run}{size}/b{batch}",
        item="images",
        make=partial(_train, run, batch, precision, grid),
        precision=precision,
        kind=kind,
    )


def _train(
    run: str, batch: int, precision: Precision, grid: int | None, device: torch.device
) -> Case:
    """Time a step in every way; `grid` tokens a side at the finest."""
    preset_name, name = _RUNS[run]
    preset = load_preset(preset_name)
    model, codes = preset.models[name].model, preset.tokenizer.autoencoder
    objective = random_objective(run, batch, device, precision, grid=grid)
    sizes, classes = objective.model.sizes, preset.data.num_classes
    ways = _EVERYWHERE | (_ON_GPU if objective.loss.tiled else {})
    if batch == 1:
        del ways["halves"]
    return Case(
        variants={name: _steps(objective, way) for name, way in ways.items()},
        items=batch,
        phases=tuple(training_phases(model, codes, sizes, classes, batch=batch)),
        settings={"batch": batch, "tokens": objective.model.tokens},
        differences=partial(_differences, objective, ways),
    )


def random_objective(
    run: str,
    batch: int,
    device: torch.device,
    precision: Precision = "float32",
    *,
    grid: int | None = None,
    ranks: Ranks | None = None,
) -> TransformerObjective:
    """Return the objective of a model with random weights on random codes.

    run: `mini`, `S-2x` or `L-2x`. batch: images of all ranks. grid: tokens a side at the finest
    scale, the preset's own if None.
    """
    ranks = ranks or Ranks()
    preset_name, name = _RUNS[run]
    preset = load_preset(preset_name)
    sizes = preset.models[name].model.sizes(grid or preset.grid)
    training, codes = preset.models[name].training, preset.tokenizer.autoencoder.codebook_size
    assert training is not None
    # As many images a schedule as in the run itself.
    schedules = max(1, round(training.schedules * batch / training.batch_size))
    settings = replace(training, batch_size=batch, schedules=schedules, precision=precision)
    cache = RandomCache(sizes, images=_IMAGES, crops=_CROPS, codes=codes)
    batches = Batches(
        cache,
        settings,
        num_classes=preset.data.num_classes,
        codebook_size=codes,
        own=ranks.own,
    )
    return TransformerObjective(
        model=random_model(preset, name, sizes).to(device),
        batches=batches,
        settings=settings,
        compute=Compute(),
        ranks=ranks,
    )


def _steps(objective: TransformerObjective, way: _Way) -> Callable[[], None]:
    """Return a call that takes a step on the next batch, in one way."""
    depth = objective.compute.prefetch if way.batch_ahead else 0
    pool = ThreadPoolExecutor(max(1, depth))
    batches = enumerate(in_order(pool, objective.batch, count(), depth))

    def step() -> None:
        iteration, batch = next(batches)
        with _taken(way, objective):
            objective.step(iteration, batch)

    return step


@contextmanager
def _taken(way: _Way, objective: TransformerObjective) -> Iterator[None]:
    """Compute in one way for a while."""
    model_loss, usual, part_logits = objective.loss, objective.compute, loss.PART_LOGITS
    tiled = model_loss.tiled
    model_loss.tiled = tiled and way.tiled
    objective.model.recompute = way.recompute
    micro_batch = -(-objective.batches.batch_size // way.micro_batches)
    objective.compute = replace(usual, micro_batch=micro_batch)
    loss.PART_LOGITS = part_logits if way.logits_in_parts else sys.maxsize
    try:
        with nullcontext() if way.compiled else torch.compiler.set_stance("force_eager"):
            yield
    finally:
        model_loss.tiled, objective.model.recompute = tiled, usual.recompute
        objective.compute, loss.PART_LOGITS = usual, part_logits


def _differences(
    objective: TransformerObjective, ways: Mapping[str, _Way]
) -> dict[str, dict[str, float]]:
    """Return how far losses and gradients of one batch are from the first way's.

    loss: largest difference of a token's, in nats. gradient: norm of the difference, as a share of
    the first one's norm. memory: its peak, as a multiple of the first one's.
    """
    batch = objective.batch(0).to(objective.device)
    (_, way), *others = ways.items()
    losses_T, gradients = _results(objective, way, batch)
    norm, found = get_total_norm(gradients), {}
    peak = peak_memory(partial(_results, objective, way, batch), objective.device)
    for name, other in others:
        other_losses_T, other_gradients = _results(objective, other, batch)
        apart = get_total_norm(torch._foreach_sub(other_gradients, gradients))
        found[name] = {
            "loss": float((other_losses_T - losses_T).abs().max()),
            "gradient": float(apart / norm),
        }
        other_peak = peak_memory(partial(_results, objective, other, batch), objective.device)
        if peak and other_peak:
            found[name]["memory"] = other_peak / peak
    return found


def _results(
    objective: TransformerObjective, way: _Way, batch: Batch
) -> tuple[Tensor, list[Tensor]]:
    """Return the losses of a batch's tokens, (T,), and the gradients of all parameters."""
    objective.optimizer.zero_grad(set_to_none=True)
    with _taken(way, objective):
        losses_T = objective.backward(batch)
    gradients = [p.grad for p in objective.model.parameters() if p.grad is not None]
    return losses_T, gradients
