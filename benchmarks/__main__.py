"""`python -m benchmarks`: time the program's parts, beside what this machine could do at best."""

import argparse
import sys

from benchmarks.run import Options, check, measure_growth_curves, measure_parts
from pcb.cli.main import Parser, run
from pcb.cli.verb import Formatter


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    bench = Parser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="examples:\n  python -m benchmarks\n"
        "  python -m benchmarks sampling tokenizer/decode --json\n"
        "  python -m benchmarks --check",
        formatter_class=Formatter,
    )
    bench.set_defaults(run=_bench)
    bench.add_argument("names", nargs="*", metavar="NAME", help="parts that begin so, default all")
    scope = bench.add_mutually_exclusive_group()
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
    bench.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    bench.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads, default %(default)s"
    )
    what = bench.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print JSON, every round's seconds in it")
    what.add_argument(
        "--record",
        action="store_true",
        help="also store ratios and rates, and the tables in docs/speed.md or docs/scale.md",
    )
    what.add_argument(
        "--check",
        action="store_true",
        help="compare with the stored ratios (exit status 1 if one lost a fifth)",
    )
    return bench


def _bench(arguments: argparse.Namespace) -> int:
    options = Options(
        names=arguments.names,
        scope=arguments.scope,
        device=arguments.device,
        threads=arguments.threads,
    )
    if arguments.growth:
        return measure_growth_curves(options, as_json=arguments.json, record=arguments.record)
    if arguments.check:
        return check(options)
    return measure_parts(options, as_json=arguments.json, record=arguments.record)


if __name__ == "__main__":
    sys.exit(run(build_parser()))
