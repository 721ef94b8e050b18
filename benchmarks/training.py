"""Parts of the stage `train`: optimizer steps, what each way of computing them is worth, and ranks.

As a program it is one of the ranks past the first of a training that is timed.
"""

import os
import subprocess
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

from benchmarks.machine import Phase, Precision
from benchmarks.measure import BASELINE, FAST, Case, Part, Scope, peak_memory
from benchmarks.sampling import RUNS, random_model, width_of
from benchmarks.stages import RandomCache
from pcb.config import Autoencoder, Compute
from pcb.config.loader import load_preset
from pcb.model.transformer import Transformer
from pcb.preflight import flops
from pcb.preflight.rates import Kind
from pcb.preflight.size import num_parameters
from pcb.runtime.pool import in_order
from pcb.runtime.ranks import Ranks, join_ranks
from pcb.runtime.rendezvous import variables_of_ranks
from pcb.train import loss
from pcb.train.batches import Batch, Batches
from pcb.train.transformer import TransformerObjective

_IMAGES, _CROPS = 1024, 2
_STEP = b"."
"""What the first rank writes to the others when they are to take a step."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a step is computed; the defaults are as the program does."""

    compiled: bool = True
    tiled: bool = True
    logits_in_parts: bool = True
    batch_ahead: bool = True
    recompute: bool = False
    micro_batches: int = 1


_EVERYWHERE = {FAST: Way(), "recomputed": Way(recompute=True), "halves": Way(micro_batches=2)}
_ON_GPU = {
    "dense-mask": Way(tiled=False),
    "uncompiled": Way(compiled=False, tiled=False),
    "logits-whole": Way(logits_in_parts=False),
    "batch-in-step": Way(batch_ahead=False),
    BASELINE: Way(compiled=False, tiled=False, logits_in_parts=False, batch_ahead=False),
}


def parts(scope: Scope) -> Iterator[Part]:
    """Yield steps of the paper's batches and of longer sequences on a GPU, small ones on a CPU."""
    if scope == "full":
        yield step_part("S-2x", 128, "bfloat16", kind="training")
        yield step_part("L-2x", 64, "bfloat16", kind="training")
        for grid, batch in ((32, 32), (64, 8)):
            yield step_part("S-2x", batch, "bfloat16", grid=grid)
    elif scope == "short":
        # A step of one image is nearly all overhead: what the arithmetic of 16 has to outweigh.
        yield step_part("mini", 1)
        yield step_part("mini", 16)
        yield step_part("S-2x", 1)
    else:
        yield step_part("mini", 2)


def step_part(
    run: str,
    batch: int,
    precision: Precision = "float32",
    *,
    grid: int | None = None,
    kind: Kind | None = None,
) -> Part:
    """Return the part of a run's steps in every way; `grid` tokens a side at the finest scale."""
    size = f"-{grid}x{grid}" if grid else ""
    return Part(
        name=f"training/{run}{size}/b{batch}",
        item="images",
        make=partial(_train, run, batch, precision, grid),
        precision=precision,
        kind=kind,
        width=width_of(run),
    )


def _train(
    run: str, batch: int, precision: Precision, grid: int | None, device: torch.device
) -> Case:
    torch._dynamo.reset()  # Graphs of other parts count against the same limit.
    objective = random_objective(run, batch, device, precision, grid=grid)
    ways = _EVERYWHERE | (_ON_GPU if objective.loss.tiled else {})
    if batch == 1:
        del ways["halves"]
    codes = load_preset(RUNS[run][0]).tokenizer.autoencoder
    return Case(
        variants={name: _steps(objective, way) for name, way in ways.items()},
        items=batch,
        phases=_phases(objective.model, codes, batch),
        differences=partial(_differences, objective, ways),
    )


def _phases(model: Transformer, codes: Autoencoder, batch: int) -> list[Phase]:
    """Return the phases of a step: products forwards and backwards, then the optimizer.

    Attention counts as dense. AdamW reads weights, gradients and both moments, and writes all but
    the gradients, in float32.
    """
    settings, sizes = model.settings, model.sizes
    parameters = num_parameters(settings, sizes, model.num_classes, codes)
    return [
        Phase(flops=batch * flops.training_step(settings, codes, sizes), bytes=0),
        Phase(flops=0, bytes=7 * 4 * parameters),
    ]


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

    run: one of `RUNS`. batch: images of all ranks. grid: tokens a side at the finest scale, the
    preset's own if None.
    """
    ranks = ranks or Ranks()
    preset_name, name, _ = RUNS[run]
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


def _steps(objective: TransformerObjective, way: Way) -> Callable[[], None]:
    """Return a call that takes a step on the next batch, in one way."""
    depth = objective.compute.prefetch if way.batch_ahead else 0
    pool = ThreadPoolExecutor(max(1, depth))
    batches = enumerate(in_order(pool, objective.batch, count(), depth))

    def step() -> None:
        iteration, batch = next(batches)
        with taken(way, objective):
            objective.step(iteration, batch)

    return step


@contextmanager
def taken(way: Way, objective: TransformerObjective) -> Iterator[None]:
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
    objective: TransformerObjective, ways: Mapping[str, Way]
) -> dict[str, dict[str, float]]:
    """Return how far losses and gradients of one batch are from the first way's.

    loss: largest difference of a token's, in nats. gradient: norm of the difference, as a share of
    the first one's norm. memory: its peak, as a multiple of the first one's.
    """
    batch = objective.batch(0).to(objective.device)
    (_, way), *others = ways.items()
    losses_T, gradients = results_of(objective, way, batch)
    norm, found = get_total_norm(gradients), {}
    _, peak = peak_memory(partial(results_of, objective, way, batch), objective.device)
    for name, other in others:
        other_losses_T, other_gradients = results_of(objective, other, batch)
        apart = get_total_norm(torch._foreach_sub(other_gradients, gradients))
        found[name] = {
            "loss": float((other_losses_T - losses_T).abs().max()),
            "gradient": float(apart / norm),
        }
        _, other_peak = peak_memory(partial(results_of, objective, other, batch), objective.device)
        if peak and other_peak:
            found[name]["memory"] = other_peak / peak
    return found


def results_of(
    objective: TransformerObjective, way: Way, batch: Batch
) -> tuple[Tensor, list[Tensor]]:
    """Return the losses of a batch's tokens, (T,), and the gradients of all parameters."""
    objective.optimizer.zero_grad(set_to_none=True)
    with taken(way, objective):
        losses_T = objective.backward(batch)
    gradients = [p.grad for p in objective.model.parameters() if p.grad is not None]
    return losses_T, gradients


@dataclass(frozen=True)
class Team:
    """The first of some ranks of the miniature's training, a thread each, and the others."""

    step_first: Callable[[], None]
    others: "tuple[subprocess.Popen[bytes], ...]"

    @classmethod
    def start(cls, world: int, batch: int) -> "Team":
        """Start the others, which end when this process does, and become the first rank."""
        own, *rest = variables_of_ranks(world)
        command = [sys.executable, "-m", "benchmarks.training", str(batch)]
        others = tuple(
            subprocess.Popen(command, env={**os.environ, **their}, stdin=subprocess.PIPE, bufsize=0)
            for their in rest
        )
        os.environ.update(own)
        return cls(_steps_of_rank(batch), others)

    def step(self) -> None:
        """Take a step together."""
        for other in self.others:
            assert other.stdin is not None
            other.stdin.write(_STEP)
        self.step_first()


def _steps_of_rank(batch: int) -> Callable[[], None]:
    """Return a call that takes this rank's next step, once all ranks have met."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    objective = random_objective("mini", batch, device, ranks=join_ranks(device, batch))
    return _steps(objective, Way(batch_ahead=False))


def main() -> None:
    """Take a step whenever the first rank says so, until it goes."""
    step = _steps_of_rank(int(sys.argv[1]))
    while sys.stdin.buffer.read(1) == _STEP:
        step()


if __name__ == "__main__":
    main()
