"""The verbs that measure images of any other generator."""

import argparse
import json
from pathlib import Path
from typing import Any

from pcb.cli.verb import Verbs, add_verb, pipeline_of
from pcb.config import Sampling
from pcb.config.loader import load_files
from pcb.config.paths import PARAMS
from pcb.errors import UserError


def add_verbs(verbs: Verbs) -> None:
    """Add `evaluate` and `verify-metrics`."""
    evaluate = add_verb(
        verbs,
        "evaluate",
        _evaluate,
        "measure any model's images of ImageNet 256x256 as the paper does",
        "pcb evaluate --images samples.npz --json scores.json\n"
        "  pcb evaluate --images folder/ --count 10000\n"
        "  pcb evaluate --images digits.npz --preset mini",
    )
    evaluate.add_argument(
        "--images", type=Path, required=True, metavar="PATH", help="a folder of PNG files or .npz"
    )
    evaluate.add_argument(
        "--count",
        type=int,
        default=Sampling().images,
        metavar="N",
        help="images expected (%(default)s)",
    )
    evaluate.add_argument(
        "--inception", type=Path, metavar="FILE", help="weights; default: what `pcb fetch` got"
    )
    evaluate.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="ADM's .npz; default: what `pcb fetch` got; its features are kept in .pcb/evaluate",
    )
    evaluate.add_argument(
        "--torch-fidelity", action="store_true", help="also print torch-fidelity's own figures"
    )
    evaluate.add_argument(
        "--preset",
        help="measure as this preset measures its own samples: its extractor, reference and count",
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write this file")
    verify = add_verb(
        verbs,
        "verify-metrics",
        _verify,
        "compare with ADM's published scores of its samples (exit status 1 if any is out)",
        "pcb verify-metrics",
    )
    for parser in (evaluate, verify):
        parser.add_argument("--params", type=Path, default=PARAMS, metavar="FILE")


def _evaluate(arguments: argparse.Namespace) -> int:
    from pcb.runtime.atomic import write_atomic

    found = _by_adm(arguments) if arguments.preset is None else _by_preset(arguments)
    for name, value in found.items():
        if isinstance(value, int | float):
            print(f"{name:<26} {value:.6g}")
    if arguments.json is not None:
        write_atomic(arguments.json, json.dumps(found, indent=1) + "\n")
    return 0


def _by_adm(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure by ADM's protocol."""
    from pcb.external.files import external_file
    from pcb.metrics.evaluate import evaluate

    # External files are looked for only if their paths are not given.
    inception, reference = (
        given or external_file(load_files(arguments.params), name)
        for given, name in (
            (arguments.inception, "inception"),
            (arguments.reference, "adm-reference"),
        )
    )
    return evaluate(
        arguments.images,
        inception,
        reference,
        count=arguments.count,
        torch_fidelity=arguments.torch_fidelity,
    )


def _by_preset(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure as a preset measures its own samples."""
    from pcb.metrics.by_preset import evaluate_by_preset
    from pcb.pipeline.manifest import COMPLETE, read_manifest

    given = [
        f"--{name.replace('_', '-')}"
        for name in ("inception", "reference", "torch_fidelity")
        if getattr(arguments, name)
    ]
    if given:
        raise UserError(f"evaluate: --preset says what {given[0]} says; give one of them")
    pipeline = pipeline_of(arguments)
    task = pipeline.task("reference")
    manifest = read_manifest(task.artifact / COMPLETE)
    if manifest is None:
        raise UserError(
            f"{task.name} of preset {pipeline.name} is not here; `{task.command}` makes it"
        )
    return evaluate_by_preset(arguments.images, pipeline.preset, task.artifact, manifest.content)


def _verify(arguments: argparse.Namespace) -> int:
    from pcb.external.files import external_file
    from pcb.metrics.golden import verify_metrics

    files = load_files(arguments.params)
    return verify_metrics(
        external_file(files, "adm-samples"),
        external_file(files, "inception"),
        external_file(files, "adm-reference"),
    )
