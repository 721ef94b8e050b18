"""The verbs for images: `generate` makes some, `export` hands on those of a sample set."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pcb.cli.show import cut_of
from pcb.cli.verb import Verbs, add_preset, add_verb, pipeline_of
from pcb.config import Sampling
from pcb.config.sweep import GUIDANCE_START

if TYPE_CHECKING:
    from pcb.generate.model import ImageModel
    from pcb.generate.options import Options

OUT = Path("generated")


def add_verbs(verbs: Verbs) -> None:
    """Add `generate` and `export`."""
    _add_generate(verbs)
    export = add_verb(
        verbs,
        "export",
        _export,
        "write a finished sample set as ADM's .npz or as PNG files, for any other evaluator",
        "pcb export ratio2/t17 --npz ratio2-t17.npz\n  pcb export ratio2/t17 --png images/",
    )
    export.add_argument("variant", metavar="MODEL/CONFIG", help="as in ratio2/t17")
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--npz", type=Path, metavar="FILE", help="arr_0, uint8, n x H x W x 3")
    form.add_argument("--png", type=Path, metavar="DIR", help="000000.png, 000001.png, ...")
    add_preset(export)


def _add_generate(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "generate",
        _generate,
        "make images of some classes with a finished model, as PNG files and a labeled grid",
        "pcb generate\n  pcb generate ratio2 --classes three 7 --count 8 --steps 4 9 17\n"
        "  pcb generate pretrained_models/checkerboard-L-2x --classes 'golden retriever' "
        "--cfg 1.5",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a model of the preset, a system of the table, or a model's folder (finished, "
        "released or as `pcb parity` reads it); default: the preset's first finished model",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="numbers or names; default: the first ten, of ImageNet eight well-known ones",
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="images of each class; default: 4, or 1 above 64 px"
    )
    _add_sampling(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="of the transformer; default: the preset's, of a folder float32",
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="PATH", help="what decodes the codes of a model's folder"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"default: {OUT}/MODEL in this folder"
    )
    parser.add_argument(
        "--animate", action="store_true", help="also a GIF of the images, block by block"
    )
    add_preset(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    """Let the verb be told how images are sampled."""
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument(
        "--steps", type=int, nargs="+", metavar="T", help="serial steps (17); several make rows"
    )
    cut.add_argument(
        "--blocks",
        type=cut_of,
        metavar="K",
        help="instead: blocks per scale, or a list such as 1,4,4,4,4",
    )
    parser.add_argument(
        "--cfg", type=float, metavar="G", help="guidance, cond + G (cond - uncond); default: off"
    )
    parser.add_argument(
        "--cfg-start-step",
        type=int,
        default=GUIDANCE_START,
        metavar="S",
        help="first guided step (%(default)s)",
    )
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="0 takes the likeliest code (1)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="default: that of the preset's sample sets"
    )


def _generate(arguments: argparse.Namespace) -> int:
    from pcb.generate.pictures import make_pictures, wanted

    sampling = _sampling(arguments)
    configs = _configs(arguments, sampling)
    model = _model(arguments, sampling)
    chosen = wanted(model, arguments.classes, arguments.count)
    for options in configs:
        warning = model.warning(options)
        if warning is not None:
            print(f"generate: {warning}", flush=True)
    out = arguments.out or OUT / model.name
    for path in make_pictures(model, chosen, configs, out, animate=arguments.animate):
        print(path)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from pcb.generate.export import SampleSet, export_npz, export_png

    samples = SampleSet(pipeline_of(arguments), arguments.variant)
    if arguments.npz is not None:
        export_npz(samples, arguments.npz)
    else:
        export_png(samples, arguments.png)
    print(arguments.npz or arguments.png)
    return 0


def _model(arguments: argparse.Namespace, sampling: Sampling | None) -> "ImageModel":
    """Load the model that the arguments name."""
    from pcb.generate.load import load_folder, place_of
    from pcb.generate.load_system import load_cataloged
    from pcb.generate.results import finished_folder
    from pcb.published.systems import catalog

    precision = arguments.precision or ("float32" if sampling is None else sampling.precision)
    place = place_of(arguments.device, precision)
    if sampling is None:
        return load_folder(Path(arguments.model), arguments.tokenizer, place)
    pipeline = pipeline_of(arguments)
    if arguments.model in catalog():
        files = pipeline.preset.files
        return load_cataloged(catalog()[arguments.model], files, arguments.tokenizer, place)
    folder = finished_folder(pipeline, arguments.params.parent, arguments.model)
    return load_folder(folder, arguments.tokenizer, place)


def _sampling(arguments: argparse.Namespace) -> Sampling | None:
    """Return how the preset samples; None for a model's folder, which has no preset."""
    if arguments.model is not None and Path(arguments.model).is_dir():
        return None
    return pipeline_of(arguments).preset.sampling


def _configs(arguments: argparse.Namespace, sampling: Sampling | None) -> "list[Options]":
    """Return how the images of each row are sampled."""
    from pcb.generate.options import Options

    defaults = sampling or Sampling()
    temperature, seed = arguments.temperature, arguments.seed
    return [
        Options(
            steps=steps,
            blocks=arguments.blocks,
            guidance=arguments.cfg,
            guidance_start=arguments.cfg_start_step,
            temperature=defaults.temperature if temperature is None else temperature,
            seed=defaults.seed if seed is None else seed,
        )
        for steps in arguments.steps or [None]
    ]
