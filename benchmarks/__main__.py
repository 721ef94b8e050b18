"""`python -m benchmarks`: time the program's parts, beside what this machine could do at best."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from benchmarks import growth, pages, sampling, stages, systems, training
from benchmarks.measure import Part, Results, Scope, measure
from pcb.cli.main import Parser, run
from pcb.cli.verb import Formatter
from pcb.config import Compute
from pcb.errors import UserError
from pcb.runtime.atomic import write_atomic
from pcb.runtime.device import pick_device

_MODULES = (sampling, stages, training, systems)
_SCOPES: dict[Scope, str] = {
    "quick": "the smallest parts, few rounds: shows that it runs",
    "short": "what two CPU cores carry in minutes; the default on a CPU",
    "full": "the paper's sizes; the default on a GPU",
    "growth": "how time and memory grow, each point in a process of its own; NAME is a curve's",
}
_ROUNDS = {"quick": (2, 0.0), "short": (7, 15.0), "full": (7, 15.0), "growth": (5, 20.0)}
"""Rounds of a part, and seconds after which fewer must do."""
_CPU = torch.device("cpu")
_TRIES = 3
"""Measurements of a part before a loss is believed: a busy machine can fake one."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = Parser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="examples:\n  python -m benchmarks\n"
        "  python -m benchmarks sampling tokenizer/decode --json results.json\n"
        "  python -m benchmarks --check",
        formatter_class=Formatter,
    )
    parser.set_defaults(run=_bench)
    add, scope = parser.add_argument, parser.add_mutually_exclusive_group()
    add("names", nargs="*", metavar="NAME", help="parts that begin so, default all")
    for name, help in _SCOPES.items():
        scope.add_argument(f"--{name}", dest="scope", action="store_const", const=name, help=help)
    read = "measure nothing: take what --json has left, here or on another machine"
    add("--from", dest="measured", type=Path, metavar="FILE", help=read)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
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
    device = pick_device(Compute(device=arguments.device))
    torch.set_num_threads(arguments.threads)
    # What is asked for, else what the machine can carry.
    scope: Scope = arguments.scope or ("full" if device.type == "cuda" else "short")
    grown = scope == "growth"

    def keep(results: Results) -> None:
        if arguments.json is not None:
            text = msgspec.json.format(msgspec.json.encode(results)).decode()
            write_atomic(arguments.json, text + "\n")
        if arguments.record and not grown:
            for store in (pages.store_ratios, pages.store_rates, pages.store_systems):
                store(results)

    if arguments.check:
        return check(chosen_parts(scope, arguments.names, device), device, scope)
    if arguments.measured is not None:
        keep(results := _read(arguments.measured))
    else:
        parts = chosen_parts(scope, arguments.names, device)
        results = measure(parts, device, *_ROUNDS[scope], keep=keep, apart=grown)
    print("\n".join((pages.growth_lines if grown else pages.table_lines)(results)), flush=True)
    if arguments.record and not arguments.names and arguments.scope in (None, "growth"):
        (pages.store_growth if grown else pages.store_page)(results)
    return int(any(part.failure for part in results.parts))


def check(parts: Sequence[Part], device: torch.device, scope: Scope) -> int:
    """Compare with the stored ratios; return 1 if one is lost in each of several measurements.

    Raises UserError where none are stored for this kind of machine, or for none of these parts.
    """
    stored = pages.read_ratios(device.type)
    parts = [part for part in parts if part.name in stored]
    if not parts:
        raise UserError(f"{pages.RATIOS}: holds no ratios of these parts, so none can be compared")
    for attempt in range(1, _TRIES + 1):
        lost = list(pages.losses(stored, measure(parts, device, *_ROUNDS[scope])))
        for name, text in lost:
            print(f"try {attempt} of {_TRIES}: {name}: {text}", flush=True)
        parts = [part for part in parts if part.name in dict(lost)]
        if not parts:
            print("no ratio is lost")
            return 0
    return 1


def chosen_parts(
    scope: Scope, names: Sequence[str] = (), device: torch.device = _CPU
) -> list[Part]:
    """Return the parts of a scope whose names begin as one of `names` does, all if there is none.

    device: what will be measured; only curves depend on it.
    Raises UserError for a name with which no part begins.
    """
    if scope == "growth":
        parts = list(growth.parts(device))
    else:
        parts = [part for module in _MODULES for part in module.parts(scope)]
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
