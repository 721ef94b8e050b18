"""The verbs that keep results: settings in effect, provenance, checks, and sharing by DVC."""

import argparse
from pathlib import Path

from pcb.cli.verb import Verbs, add_verb
from pcb.params import PARAMS_FILE, active_preset, load_params, parse_preset
from pcb.pipeline import Pipeline


def add_verbs(verbs: Verbs) -> None:
    """Add `settings`, `trace`, `verify`, `restore` and `publish`."""
    trace = add_verb(
        verbs,
        "trace",
        _trace,
        "print what a number was made from, back to the images (exit status 1 if any is out)",
        "pcb trace reports/mini/metrics.csv:3\n  pcb trace metrics/ratio2/t17 --preset smoke",
    )
    trace.add_argument(
        "target", metavar="TARGET", help="a row of metrics.csv, a unit, a manifest or a file"
    )
    _add_preset(trace)
    for name, run, help in (
        ("settings", _settings, "write the settings in effect, by stage and unit, for DVC"),
        ("verify", _verify, "read all results of a preset anew and compare with the manifests"),
        ("restore", _restore, "fetch missing and damaged results from DVC's remote, and verify"),
        ("publish", _publish, "record a finished preset in DVC and git, and push both"),
        ("readme", _readme, "put the measured table and pictures of a report into README.md"),
    ):
        _add_preset(add_verb(verbs, name, run, help, f"pcb {name}"))


def _add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", help="default: $PCB_PRESET, else `preset` in params.yaml")


def _pipeline(arguments: argparse.Namespace) -> Pipeline:
    params = load_params(PARAMS_FILE)
    name = arguments.preset or active_preset(params)
    return Pipeline(name, parse_preset(params, name, str(PARAMS_FILE)))


def _settings(arguments: argparse.Namespace) -> int:
    from pcb.effective import write_settings

    print(write_settings(_pipeline(arguments)))
    return 0


def _trace(arguments: argparse.Namespace) -> int:
    from pcb.trace import print_trace, unit_of

    if arguments.preset is None:
        arguments.preset = _preset_in(arguments.target)
    pipeline = _pipeline(arguments)
    return print_trace(pipeline, unit_of(pipeline, arguments.target))


def _preset_in(target: str) -> str | None:
    """Return the preset that a path below reports/ or results/ names, if it is one."""
    presets = load_params(PARAMS_FILE)["presets"]
    return next((part for part in Path(target).parts[1:3] if part in presets), None)


def _verify(arguments: argparse.Namespace) -> int:
    from pcb.audit import audit, print_findings

    findings = audit(_pipeline(arguments))
    print_findings(findings)
    return 0 if all(found.ok for found in findings) else 1


def _restore(arguments: argparse.Namespace) -> int:
    from pcb.store import restore

    return restore(_pipeline(arguments))


def _publish(arguments: argparse.Namespace) -> int:
    from pcb.store import publish

    return publish(_pipeline(arguments))


def _readme(arguments: argparse.Namespace) -> int:
    from pcb.report.readme import update_readme

    report = _pipeline(arguments).unit("report").artifact
    update_readme(report, Path("README.md"), Path("docs/images"))
    return 0
