"""`python -m benchmarks`: time the program's parts, beside what this machine could do at best."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from benchmarks import growth, pages, sampling, stages, systems, training
from benchmarks.measure import CPU, Part, Results, measure
from pcb.cli.main import Parser, run
from pcb.config import Compute
from pcb.errors import UserError
from pcb.runtime.atomic import write_atomic
from pcb.runtime.device import pick_device

_TRIES = 3
"""Measurements of a part before a loss is believed: a busy machine can fake one."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    parser.set_defaults(run=_bench)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="parts that begin so, default all")
    grow = "how time and memory grow, each point in a process of its own; NAME is a curve's"
    add("--growth", action="store_true", help=grow)
    read = "measure nothing: take what --json has left, here or on another machine"
    add("--from", dest="measured", type=Path, metavar="FILE", help=read)
    which = "default a GPU if there is one; it has the paper's sizes, a CPU what takes minutes"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=which)
    add("--threads", type=int, default=1, metavar="N", help="CPU threads, default %(default)s")
    add("--json", type=Path, metavar="FILE", help="also write JSON there, after every part")
    what = parser.add_mutually_exclusive_group()
    store = "also store ratios and rates, after every part, and a whole run's tables in docs/"
    what.add_argument("--record", action="store_true", help=store)
    compare = "compare with the stored ratios (exit status 1 if one lost a fifth)"
    what.add_argument("--check", action="store_true", help=compare)
    return parser


def _bench(arguments: argparse.Namespace) -> int:
    """Measure, or read, what is asked for, and print it; return 1 if a part failed."""
    device, curves = pick_device(Compute(device=arguments.device)), arguments.growth
    torch.set_num_threads(arguments.threads)

    def keep(results: Results) -> None:
        if arguments.json is not None:
            text = msgspec.json.format(msgspec.json.encode(results)).decode()
            write_atomic(arguments.json, text + "\n")
        if arguments.record and not curves:
            for store in (pages.store_ratios, pages.store_rates, systems.store_systems):
                store(results)

    parts = chosen_parts(arguments.names, device, curves=curves)
    if arguments.check:
        return check(parts, device)
    if arguments.measured is not None:
        keep(results := _read(arguments.measured))
    else:
        results = measure(parts, device, keep=keep, apart=curves)
    print("\n".join((pages.growth_lines if curves else pages.table_lines)(results)), flush=True)
    if arguments.record and not arguments.names:
        (pages.store_growth if curves else pages.store_page)(results)
    return int(any(part.failure for part in results.parts))


def check(parts: Sequence[Part], device: torch.device) -> int:
    """Compare with the stored ratios; return 1 if one is lost in each of several measurements.

    Raises UserError where none are stored for this kind of machine, or for none of these parts.
    """
    stored = pages.read_ratios(device.type)
    parts = [part for part in parts if part.name in stored]
    if not parts:
        raise UserError(f"{pages.RATIOS}: holds no ratios of these parts, so none can be compared")
    for attempt in range(1, _TRIES + 1):
        lost = list(pages.losses(stored, measure(parts, device)))
        for name, text in lost:
            print(f"try {attempt} of {_TRIES}: {name}: {text}", flush=True)
        parts = [part for part in parts if part.name in dict(lost)]
        if not parts:
            print("no ratio is lost")
            return 0
    return 1


def chosen_parts(
    names: Sequence[str] = (), device: torch.device = CPU, *, curves: bool = False
) -> list[Part]:
    """Return a device's parts, or points of curves, whose names begin as one of `names` does.

    All of them where there are no `names`. Raises UserError for one with which no part begins.
    """
    modules = (growth,) if curves else (sampling, stages, training, systems)
    parts = [part for module in modules for part in module.parts(device)]
    for name in names:
        if not any(part.name.startswith(name) for part in parts):
            known = ", ".join(part.name for part in parts)
            raise UserError(f"benchmarks {name}: no part begins so; there are {known}")
    return [part for part in parts if not names or part.name.startswith(tuple(names))]


def _read(path: Path) -> Results:
    """Read what `--json` has left. Raises UserError naming the file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"--from {path}: {error}; expected what --json writes") from None


if __name__ == "__main__":
    sys.exit(run(build_parser()))
