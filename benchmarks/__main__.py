"""`python -m benchmarks`: time the program's parts, beside what this machine could do at best."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import torch

from benchmarks import pages, sampling, stages, training
from benchmarks.growth import measure_growth
from benchmarks.measure import Part, Results, Scope, measure
from pcb.cli.main import Parser, run
from pcb.cli.verb import Formatter
from pcb.config import Compute
from pcb.errors import UserError
from pcb.runtime.atomic import write_atomic
from pcb.runtime.device import pick_device

_MODULES = (sampling, stages, training)
_ROUNDS, _BUDGET = {"quick": 2, "short": 7, "full": 7}, {"quick": 0.0, "short": 15.0, "full": 15.0}
"""Of a part: rounds, and the seconds after which fewer must do."""
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
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts that begin so, default all")
    scope = parser.add_mutually_exclusive_group()
    for name, help in (
        ("quick", "the smallest parts, few rounds: shows that it runs"),
        ("short", "what two CPU cores carry in minutes; the default on a CPU"),
        ("full", "the paper's sizes; the default on a GPU"),
    ):
        scope.add_argument(f"--{name}", dest="scope", action="store_const", const=name, help=help)
    scope.add_argument(
        "--growth",
        action="store_true",
        help="how time and memory grow, each point in a process of its own; NAME is a curve's",
    )
    parser.add_argument(
        "--from",
        dest="measured",
        type=Path,
        metavar="FILE",
        help="measure nothing: take what --json has left, here or on another machine",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads, default %(default)s"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write JSON there, after every part"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--record",
        action="store_true",
        help="also store ratios and rates, after every part, and of a whole run the tables in "
        "docs/speed.md or docs/scale.md",
    )
    what.add_argument(
        "--check",
        action="store_true",
        help="compare with the stored ratios (exit status 1 if one lost a fifth)",
    )
    return parser


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.measured is not None:
        return _finish(_read(arguments.measured), arguments)
    device = pick_device(Compute(device=arguments.device))
    torch.set_num_threads(arguments.threads)
    if arguments.growth:
        growth = measure_growth(arguments.names, device, arguments.threads)
        _write_json(growth, arguments.json)
        return _finish(growth, arguments)
    # What is asked for, else what the machine can carry.
    scope: Scope = arguments.scope or ("full" if device.type == "cuda" else "short")
    parts = chosen_parts(scope, arguments.names)
    if arguments.check:
        return check(parts, device, scope)

    def keep(results: Results) -> None:
        _write_json(results, arguments.json)
        if arguments.record:
            pages.store_ratios(results)
            pages.store_rates(results)
            pages.store_systems(results)

    rounds, budget = _ROUNDS[scope], _BUDGET[scope]
    results = measure(parts, device, rounds=rounds, budget=budget, keep=keep)
    return _finish(results, arguments)


def _finish(results: Results, arguments: argparse.Namespace) -> int:
    """Print results, store them if asked to; return 1 if a part failed."""
    whole = arguments.record and not arguments.names
    if arguments.growth:
        _print(pages.growth_lines(results))
        if whole:
            pages.store_growth(results)
    else:
        _print(pages.table_lines(results))
        if arguments.record:
            pages.store_ratios(results)
            pages.store_rates(results)
            pages.store_systems(results)
        if whole and arguments.scope is None:
            pages.store_page(results)
    return int(any(part.failure for part in results.parts))


def check(parts: Sequence[Part], device: torch.device, scope: Scope) -> int:
    """Compare with the stored ratios; return 1 if one is lost in each of several measurements.

    Raises UserError where none are stored for this kind of machine.
    """
    stored = pages.read_ratios(device.type)
    parts = [part for part in parts if part.name in stored]
    for attempt in range(1, _TRIES + 1):
        results = measure(parts, device, rounds=_ROUNDS[scope], budget=_BUDGET[scope])
        lost = list(pages.losses(stored, results))
        _print(f"try {attempt} of {_TRIES}: {loss}" for loss in lost)
        names = {loss.part for loss in lost}
        parts = [part for part in parts if part.name in names]
        if not parts:
            print("no ratio is lost")
            return 0
    return 1


def chosen_parts(scope: Scope, names: Sequence[str] = ()) -> list[Part]:
    """Return the parts of a scope whose names begin as one of `names` does, all if there is none.

    Raises UserError for a name with which no part begins.
    """
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


def _write_json(results: Results, path: Path | None) -> None:
    if path is not None:
        write_atomic(path, msgspec.json.format(msgspec.json.encode(results)).decode() + "\n")


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(run(build_parser()))
