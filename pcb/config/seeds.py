"""Models trained with several seeds: an entry of `models` for each training seed. No torch.

Seed 0 keeps the model's name, and with it the key of its results; the others are `NAME.seed1`,
`NAME.seed2`, ... What training draws at random depends on its seed and on shapes alone, so two
models with the same scales and sizes see, for one seed, the same batches, dropped labels, replaced
codes, blocks and initial weights: differences may be taken seed by seed.
"""

import re

import msgspec

from pcb.config.model import ModelRun

_SEED = re.compile(r"(?P<model>.+)\.seed(?P<seed>\d+)")


def trained_once_each(name: str, run: ModelRun) -> dict[str, ModelRun]:
    """Return the entries that `seeds` asks for, by name; a model without it is one entry.

    Raises ValueError for released weights, which nothing is trained for.
    """
    if run.seeds is None:
        return {name: run}
    if run.training is None:
        raise ValueError("released weights have no training to repeat")
    first = run.training.seed
    return {
        seed_name(name, seed): msgspec.structs.replace(
            run,
            seeds=None,
            training=msgspec.structs.replace(run.training, seed=first + seed),
        )
        for seed in range(run.seeds)
    }


def seed_name(model: str, seed: int) -> str:
    """Return the name of a model's entry of one seed, counted from 0."""
    return f"{model}.seed{seed}" if seed else model


def model_and_seed(name: str) -> tuple[str, int]:
    """Return whose entry this is, and of which seed, counted from 0."""
    found = _SEED.fullmatch(name)
    return (found["model"], int(found["seed"])) if found else (name, 0)
