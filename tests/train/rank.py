"""A rank of a training of a tiny model: ``python -m tests.train.rank TOKENS FOLDER CASE...``.

A case is JSON: settings of `Compute`, the `folder` below FOLDER where it runs, those of the `model`
and, as `stop`, the iteration after which the last rank is told to leave; `first` tells the first
one instead, whose process then ends, as that of a job that is requeued does.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from pcb.config import Compute, Training
from pcb.runtime import interrupt
from pcb.runtime.progress import Progress
from pcb.runtime.ranks import Ranks, join_ranks, leave_ranks
from pcb.tokenizer.cache import TokenCache
from pcb.train.batches import Batches
from pcb.train.loop import Loop
from pcb.train.transformer import TransformerObjective
from tests.models import tiny_model
from tests.train.tokens import CODES, SIZES

# Schedules that two ranks cannot share out whole.
SETTINGS = Training(epochs=6, batch_size=8, schedules=3, learning_rate=1e-3, precision="float32")

MODEL = {"layers": 2, "heads": 2}


ENDED = 3
"""Status of a first rank that was told to leave, and was not alone."""


class Left(Exception):
    """Stands for the end of the process, after a cluster's warning."""


def train(
    tokens: Path,
    folder: Path,
    ranks: Ranks,
    *,
    stop: int = 0,
    first: bool = False,
    model: dict = MODEL,
    **compute,
) -> None:
    """Train; leave the weights and what there is to say of them in the folder."""
    folder.mkdir(exist_ok=True)
    batches = Batches(
        TokenCache.open(tokens, SIZES), SETTINGS, num_classes=10, codebook_size=CODES, own=ranks.own
    )
    settings = Compute(**compute)
    objective = TransformerObjective(
        model=tiny_model(codes=CODES, classes=10, **model),
        batches=batches,
        settings=SETTINGS,
        compute=settings,
        ranks=ranks,
    )
    loop = Loop(
        objective=objective,
        folder=folder,
        checkpoint_seconds=settings.checkpoint_seconds,
        prefetch=settings.prefetch,
        ranks=ranks,
    )
    loop.resume()
    begun = loop.iteration
    told = ranks.rank == (0 if first else ranks.world - 1)
    due = interrupt.due
    interrupt.due = lambda: bool(stop) and told and loop.iteration >= stop
    try:
        with Progress("train", "iterations", batches.iterations) as progress:
            loop.run(progress)
    except Left:
        pass
    finally:
        interrupt.due = due
    save_file(objective.model.state_dict(), folder / f"rank{ranks.rank}.safetensors")
    said = {"begun": begun, "ended": loop.iteration, "log": loop.log}
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps(said))


def leave() -> None:
    raise Left


def leave_as_first(ranks: Ranks) -> None:
    """Do what submitit does when it is told: end the first task, and nothing in the others."""
    if ranks.first:
        sys.exit(ENDED)


if __name__ == "__main__":
    tokens, root, *cases = sys.argv[1:]
    torch.set_num_threads(1)
    ranks = join_ranks(torch.device("cpu"), SETTINGS.batch_size)
    for case in map(json.loads, cases):
        interrupt.hand_over = partial(leave_as_first, ranks) if case.get("first") else leave
        train(Path(tokens), Path(root) / case.pop("folder"), ranks, **case)
    ranks.wait()
    leave_ranks(ranks)
