"""The verbs for results: resolved settings, provenance, checks, and sharing by DVC."""

import argparse
from pathlib import Path

from pcb.cli.verb import Verbs, add_preset, add_verb, pipeline_of
from pcb.config.loader import load_params, parse_preset
from pcb.config.paths import PARAMS
from pcb.pipeline.tasks import Pipeline


def add_verbs(verbs: Verbs) -> None:
    """Add `settings`, `trace`, `verify`, `restore`, `publish`, `readme` and `clean`."""
    trace = add_verb(
        verbs,
        "trace",
        _trace,
        "print what a number was made from, back to the images (exit status 1 if any is out)",
        "pcb trace reports/mini/metrics.csv:3\n  pcb trace metrics/ratio2/t17 --preset smoke",
    )
    trace.add_argument(
        "target", metavar="TARGET", help="a row of metrics.csv, a task, a manifest or a file"
    )
    add_preset(trace)
    for name, run, help in (
        ("settings", _settings, "write the resolved settings, by stage and task, for DVC"),
        ("verify", _verify, "read all results of a preset anew and compare with the manifests"),
        ("restore", _restore, "fetch missing and damaged results from DVC's remote, and verify"),
        ("publish", _publish, "record a finished preset in DVC and git, and push both"),
        ("readme", _readme, "write a report's measured tables into README.md or docs/studies.md"),
    ):
        add_preset(add_verb(verbs, name, run, help, f"pcb {name}"))

    clean = add_verb(
        verbs,
        "clean",
        _clean,
        "show the results that params.yaml no longer asks for; with --yes, delete them",
        "pcb clean\n  pcb clean --yes",
    )
    clean.add_argument("--yes", action="store_true", help="delete what is shown")
    clean.add_argument(
        "--params", type=Path, default=PARAMS, metavar="FILE", help="default: %(default)s"
    )


def _clean(arguments: argparse.Namespace) -> int:
    from pcb.pipeline.leftovers import (
        delete_leftovers,
        leftovers,
        leftovers_of_presets,
        size_of,
    )
    from pcb.pipeline.workflow import hold_workflow

    params = load_params(arguments.params)
    presets = params["presets"]
    source = str(arguments.params)
    found = leftovers_of_presets(presets)
    for name in presets:
        found += leftovers(Pipeline(name, parse_preset(params, name, source)))
    for path in found:
        print(f"{size_of(path) / 1e6:10.1f} MB  {path}")
    if not found:
        print("nothing: params.yaml asks for all results that are here")
    elif arguments.yes:
        hold_workflow()
        delete_leftovers(found)
        print(f"{len(found)} deleted")
    else:
        print(f"{len(found)} that {source} no longer asks for; `pcb clean --yes` deletes them")
    return 0


def _settings(arguments: argparse.Namespace) -> int:
    from pcb.pipeline.resolved import write_settings

    print(write_settings(pipeline_of(arguments)))
    return 0


def _trace(arguments: argparse.Namespace) -> int:
    from pcb.pipeline.trace import print_trace, task_of

    if arguments.preset is None:
        arguments.preset = _preset_in(arguments)
    pipeline = pipeline_of(arguments)
    return print_trace(pipeline, task_of(pipeline, arguments.target))


def _preset_in(arguments: argparse.Namespace) -> str | None:
    """Return the preset that a target below reports/ or results/ names, if it is one."""
    presets = load_params(arguments.params)["presets"]
    return next((part for part in Path(arguments.target).parts[1:3] if part in presets), None)


def _verify(arguments: argparse.Namespace) -> int:
    from pcb.pipeline.verify import print_findings, verify

    findings = verify(pipeline_of(arguments))
    print_findings(findings)
    return 0 if all(found.current for found in findings) else 1


def _restore(arguments: argparse.Namespace) -> int:
    from pcb.pipeline.dvc import restore

    return restore(pipeline_of(arguments))


def _publish(arguments: argparse.Namespace) -> int:
    from pcb.pipeline.dvc import publish

    return publish(pipeline_of(arguments))


def _readme(arguments: argparse.Namespace) -> int:
    from pcb.pipeline.manifest import read_manifest
    from pcb.report.readme import STUDIES, update_readme, update_study

    pipeline = pipeline_of(arguments)
    task = pipeline.task("report")
    if pipeline.name in STUDIES:
        manifest = read_manifest(task.manifest)
        said = str(manifest.results.get("orders", "")) if manifest else ""
        update_study(pipeline.name, task.artifact, Path("docs/studies.md"), said)
    else:
        update_readme(task.artifact, Path("README.md"), Path("docs/images"))
    return 0
