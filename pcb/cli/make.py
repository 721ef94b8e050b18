"""The verbs that make results: one per stage. Snakemake's rules call nothing else."""

import argparse
from functools import partial

from pcb.cli.verb import Verbs, add_preset, add_verb, pipeline_of
from pcb.config.loader import load_cluster
from pcb.config.stages import STAGES, Stage
from pcb.pipeline.execution import launcher_of, require_launcher, set_threads
from pcb.pipeline.job import entry_of, stage_function
from pcb.pipeline.run import run_task

_NAMES = {"model": ("MODEL", "ratio2"), "sampling config": ("MODEL/CONFIG", "ratio2/t17")}
"""How a stage's tasks are named on the command line, and an example."""


def add_verbs(verbs: Verbs) -> None:
    """Add a verb for each stage."""
    for stage in STAGES.values():
        name, example = _NAMES.get(stage.one_per, ("", ""))
        command = f"pcb {stage.name} {example} --preset smoke".replace("  ", " ")
        parser = add_verb(verbs, stage.name, partial(_make, stage), stage.help, command)
        if name:
            parser.add_argument("variant", metavar=name, help=f"as in {example}")
        else:
            parser.set_defaults(variant="all")
        add_preset(parser)
        parser.add_argument(
            "--force", action="store_true", help="make it again, even if it is complete"
        )
        if stage.partial:
            parser.add_argument(
                "--partial", action="store_true", help="of what there is; the rest says `not run`"
            )


def _make(stage: Stage, arguments: argparse.Namespace) -> int:
    """Make one task of a stage, or what can be made of it, which counts for nothing."""
    pipeline = pipeline_of(arguments)
    if stage.partial and arguments.partial:
        print(stage_function(stage.name, "run_partial")(pipeline))
        return 0
    preset, task = pipeline.preset, pipeline.task(stage.name, arguments.variant)
    launcher = launcher_of(stage.name)
    if launcher != "debug":
        require_launcher()
        # Only here: who computes in this process needs no submitit.
        from pcb.launch.launcher import launch

        launch(task, load_cluster(arguments.params), launcher, force=arguments.force)
        return 0
    set_threads(stage.name, preset.compute)
    run_task(task, preset, entry_of(stage.name), force=arguments.force)
    return 0
