"""The verb that measures speed and memory."""

import argparse

from pcb.cli.verb import Verbs, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add `bench`."""
    bench = add_verb(
        verbs,
        "bench",
        _bench,
        "time the program's parts, beside what this machine could do at best",
        "pcb bench\n  pcb bench sampling tokenizer/decode --json\n  pcb bench --check",
    )
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


def _bench(arguments: argparse.Namespace) -> int:
    from pcb.bench.run import Options, bench, bench_growth, check

    options = Options(
        names=arguments.names,
        scope=arguments.scope,
        device=arguments.device,
        threads=arguments.threads,
    )
    if arguments.growth:
        return bench_growth(options, as_json=arguments.json, record=arguments.record)
    if arguments.check:
        return check(options)
    return bench(options, as_json=arguments.json, record=arguments.record)
