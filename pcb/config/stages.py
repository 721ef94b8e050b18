"""The table of stages, in pipeline order, from which everything else about a stage is derived.

A stage is a file `pcb/stages/NAME.py` with a function `run`, a rule `workflow/rules/NAME.smk` and a
verb `pcb NAME`. What its tasks read is in `pcb.pipeline.tasks`. The table stands here because a
cluster's settings name stages. No torch.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What sets a stage apart."""

    name: str
    version: int
    """Raise it when the stage's code comes to give another result from the same settings."""
    help: str
    """What its verb does, as `pcb --help` says it."""
    one_per: Literal["preset", "model", "sampling config"] = "preset"
    """Whether there is one task for the preset, one per model, or one per sampling config."""
    wide: bool = False
    """Whether a task gets several threads: where there are few and much waits for them. Tasks of
    other stages run side by side, a thread each."""
    sharded: bool = False
    """Whether several processes can make a task's shards at the same time."""
    ranked: bool = False
    """Whether the GPUs of a node work on a task together, a process each."""
    launched: bool = True
    """Whether a launcher may run it elsewhere. What is light runs where it is called."""
    in_git: bool = False
    """Whether its result stands in git, in ``reports/PRESET``, and not in DVC."""
    pages: tuple[str, ...] = ()
    """Files of its result that Snakemake's own report shows."""
    partial: bool = False
    """Whether its file also has a function `run_partial`, which makes what it can of what there is,
    outside of the pipeline: `pcb NAME --partial`."""


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name="data",
            version=2,
            help="make the training and the reference images",
        ),
        Stage(
            name="tokenizer",
            version=2,
            help="train a tokenizer, requantize LlamaGen's, or take the released one",
            wide=True,
        ),
        Stage(
            name="reference",
            version=2,
            help="compute the features of the reference images that samples are compared with",
        ),
        Stage(
            name="tokens",
            version=2,
            help="encode the training images at every scale",
            wide=True,
            sharded=True,
        ),
        Stage(
            name="train",
            version=3,
            help="train one model, or take its released weights",
            one_per="model",
            wide=True,
            ranked=True,
        ),
        Stage(
            name="sample",
            version=3,
            help="sample the images of one sampling config, as token codes",
            one_per="sampling config",
            sharded=True,
        ),
        Stage(
            name="metrics",
            version=2,
            help="measure the images of one sampling config",
            one_per="sampling config",
            sharded=True,
        ),
        Stage(
            name="likelihood",
            version=1,
            help="measure the likelihood of held-out images under one schedule",
            one_per="sampling config",
            sharded=True,
        ),
        Stage(
            name="report",
            version=2,
            help="make the tables, figures and the page",
            launched=False,
            in_git=True,
            pages=("index.html", "metrics.csv", "claims.json"),
            partial=True,
        ),
    )
}
