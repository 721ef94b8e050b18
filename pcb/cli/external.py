"""The verbs for external files."""

import argparse
from pathlib import Path

from pcb.cli.verb import Verbs, add_preset, add_verb, pipeline_of


def add_verbs(verbs: Verbs) -> None:
    """Add `fetch` and `import`."""
    fetch = add_verb(
        verbs,
        "fetch",
        _fetch,
        "download the external files that a preset needs, or take them from a folder",
        "pcb fetch --preset paper-pretrained\n  pcb fetch llamagen --from /mnt/usb\n"
        "  pcb fetch --list",
    )
    fetch.add_argument("names", nargs="*", metavar="NAME", help="instead of all that are needed")
    fetch.add_argument(
        "--from", dest="folder", type=Path, metavar="DIR", help="a folder that holds them"
    )
    fetch.add_argument("--list", action="store_true", help="print what is known, and what is here")
    add_preset(fetch)
    importing = add_verb(
        verbs,
        "import",
        _import,
        "make a preset's tokenizer and model from a folder in the released layout",
        "pcb import pretrained_models/checkerboard-L-2x --preset paper-pretrained",
    )
    importing.add_argument("folder", metavar="DIR", type=Path, help="it holds config.yaml")
    importing.add_argument("--model", help="default: the one that config.yaml describes")
    add_preset(importing)


def _fetch(arguments: argparse.Namespace) -> int:
    from pcb.external.catalog import needed_files
    from pcb.external.fetch import fetch, list_lines

    pipeline = pipeline_of(arguments)
    files = pipeline.preset.files
    if arguments.list:
        print("\n".join(list_lines(files)))
        return 0
    names = arguments.names or needed_files(pipeline.preset)
    if not names:
        print(f"preset {pipeline.name} needs no external files")
    return fetch(files, names, arguments.folder)


def _import(arguments: argparse.Namespace) -> int:
    from pcb.external.folder import import_folder

    return import_folder(pipeline_of(arguments), arguments.folder, arguments.model)
