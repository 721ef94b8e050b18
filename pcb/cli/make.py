"""The verbs that make results: one a stage. Snakemake's rules call nothing else."""

import argparse
from functools import partial

from pcb.cli.verb import Verbs, add_preset, add_verb, pipeline_of
from pcb.config.loader import load_cluster
from pcb.pipeline.run import run_task
from pcb.pipeline.stages import launcher_of, lazy_entry, set_threads

# stage: what its verb does, what names its task (None: there is one), an example of that name
STAGES: dict[str, tuple[str, str | None, str]] = {
    "data": ("make the training and the reference images", None, ""),
    "tokenizer": ("train the tokenizer", None, ""),
    "reference": ("make what samples are compared with, as the metrics see it", None, ""),
    "tokens": ("encode the training images at every scale", None, ""),
    "train": ("train one model", "MODEL", "ratio2"),
    "sample": ("draw the images of one setting, as token codes", "MODEL/SETTING", "ratio2/t17"),
    "metrics": ("measure the images of one setting", "MODEL/SETTING", "ratio2/t17"),
    "report": ("make the tables, figures and the page", None, ""),
}


def add_verbs(verbs: Verbs) -> None:
    """Add a verb for each stage."""
    for stage, (help, name, example) in STAGES.items():
        command = f"pcb {stage} {example} --preset smoke".replace("  ", " ")
        parser = add_verb(verbs, stage, partial(_make, stage), help, command)
        if name is None:
            parser.set_defaults(variant="all")
        else:
            parser.add_argument("variant", metavar=name, help=f"as in {example}")
        add_preset(parser)
        parser.add_argument(
            "--force", action="store_true", help="make it again, even if it is complete"
        )
        if stage == "report":
            parser.set_defaults(run=_report)
            parser.add_argument(
                "--partial", action="store_true", help="of what there is; the rest says `not run`"
            )


def _report(arguments: argparse.Namespace) -> int:
    """Make the report, or one of what there is, which counts for nothing in the pipeline."""
    if not arguments.partial:
        return _make("report", arguments)
    pipeline = pipeline_of(arguments)
    # Only here: drawing needs torch and Matplotlib.
    from pcb.report.evidence import Evidence
    from pcb.stages.report import write_report

    folder = pipeline.task("report").artifact
    facts = write_report(Evidence(pipeline), folder)
    run, settings = facts["settings_run"], facts["settings"]
    print(f"{folder / 'index.html'}: {run} of {settings} settings are in it")
    return 0


def _make(stage: str, arguments: argparse.Namespace) -> int:
    """Make one task of a stage."""
    pipeline = pipeline_of(arguments)
    preset, task = pipeline.preset, pipeline.task(stage, arguments.variant)
    launcher = launcher_of(stage)
    if launcher != "debug":
        # Only here: who computes in this process needs no submitit.
        from pcb.launch import launch

        launch(task, load_cluster(arguments.params), launcher, force=arguments.force)
        return 0
    set_threads(stage, preset.compute)
    run_task(task, preset, lazy_entry(stage), force=arguments.force)
    return 0
