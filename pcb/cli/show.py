"""The verbs that show: the checkerboard order, the schedules, what a preset will take."""

import argparse
from pathlib import Path

from pcb.cli.verb import Verbs, add_preset, add_verb, pipeline_of
from pcb.errors import UserError
from pcb.order.allocation import schedule_from_total, unaligned_note, untrained_warning
from pcb.order.blocks_text import Cut, read_blocks, sizes_text
from pcb.order.names import ORDER_NAMES
from pcb.order.schedule import Schedule, block_kind, scale_sizes, schedule_from_blocks

FINAL = 16
"""Side of the paper's finest token grid."""
ALL = "all"
"""What stands for every order."""


def add_verbs(verbs: Verbs) -> None:
    """Add `plan`, `order` and `schedule`."""
    plan = add_verb(
        verbs,
        "plan",
        _plan,
        "estimate a preset's GPU hours and bytes before anything runs, and list missing files",
        "pcb plan --preset paper --gpu H100 --gpus 8",
    )
    plan.add_argument("--gpu", default="H100", metavar="NAME", help="default: %(default)s")
    plan.add_argument(
        "--gpus", type=int, default=1, metavar="N", help="how many work at a time, default 1"
    )
    plan.add_argument(
        "--utilization",
        type=float,
        metavar="FRACTION",
        help="fraction of the datasheet's peak for work not measured on this GPU; default: a range",
    )
    add_preset(plan)
    order = add_verb(
        verbs,
        "order",
        _order,
        "print the order in which the cells of an N x N grid are sampled, as ranks from 0",
        "pcb order 8 --png order.png\n  pcb order 8 --order all --png orders.png",
    )
    order.add_argument("n", metavar="N", type=int, help="side of the grid")
    order.add_argument(
        "--order",
        default="checkerboard",
        metavar="NAME",
        help=f"{ORDER_NAMES[0]} (default), {', '.join(ORDER_NAMES[1:])}, or `{ALL}` of them",
    )
    order.add_argument("--png", type=Path, metavar="FILE", help="also plot it into this file")
    _add_schedule(verbs)


def _add_schedule(verbs: Verbs) -> None:
    schedule = add_verb(
        verbs,
        "schedule",
        _schedule,
        "print the scales, blocks and steps of a model",
        "pcb schedule --ratio 2 --blocks 4\n  pcb schedule --ratio 3 --total-steps 17 --final 8",
    )
    schedule.add_argument(
        "--ratio",
        type=_ratio,
        required=True,
        metavar="R",
        help="quotient of neighboring scales' sides, greater than 1, or `single`",
    )
    cut = schedule.add_mutually_exclusive_group(required=True)
    cut.add_argument(
        "--blocks",
        type=cut_of,
        metavar="K",
        help="blocks per scale, or of each: 1,4,4,4,4; sizes: 1,4,4x11+2x10",
    )
    cut.add_argument("--total-steps", type=int, metavar="T", help="steps over all scales")
    schedule.add_argument(
        "--final", type=int, default=FINAL, metavar="S", help="finest side, default %(default)s"
    )


def schedule_lines(schedule: Schedule) -> list[str]:
    """Return a schedule as a table, one scale a line, and a line of totals."""
    lines = ["scale    tokens  blocks  known as   sizes of the blocks"]
    for size, blocks in zip(schedule.sizes, schedule.blocks, strict=True):
        grid, kind = f"{size}x{size}", block_kind(size, blocks)
        lines.append(
            f"{grid:<7}{size * size:>8}{len(blocks):>8}  {kind:<10} "
            f"{sizes_text(blocks, ', ', ' x ')}"
        )
    scales = f"{len(schedule.sizes)} scales" if len(schedule.sizes) > 1 else "1 scale"
    lines.append(f"{scales}, {schedule.tokens} tokens, {schedule.steps} steps")
    said = untrained_warning(schedule) or unaligned_note(schedule)
    return [*lines, said] if said else lines


def _plan(arguments: argparse.Namespace) -> int:
    from pcb.preflight.plan import print_plan
    from pcb.preflight.rates import load_device

    fraction = arguments.utilization
    if arguments.gpus < 1 or not (fraction is None or 0 < fraction <= 1):
        raise UserError("plan: --gpus must be at least 1, --utilization above 0 and at most 1")
    device = load_device(arguments.gpu, fraction)
    return print_plan(pipeline_of(arguments), device, arguments.gpus)


def _order(arguments: argparse.Namespace) -> int:
    from pcb.order.orders import ranks_of

    n, name = arguments.n, arguments.order
    if n < 1:
        raise UserError(f"order {n}: a grid needs at least one cell per side; give N >= 1")
    if name not in (*ORDER_NAMES, ALL):
        raise UserError(f"order {n}: --order {name} is none of {', '.join(ORDER_NAMES)}, {ALL}")
    names = ORDER_NAMES if name == ALL else (name,)
    width = len(str(n * n - 1))
    for shown in names:
        if len(names) > 1:
            print(f"{shown}:")
        for row in ranks_of(shown, n):
            print(" ".join(f"{rank:>{width}}" for rank in row))
    if arguments.png is not None:
        from pcb.report.order_figures import plot_orders

        plot_orders(n, arguments.png, names)
    return 0


def _schedule(arguments: argparse.Namespace) -> int:
    try:
        sizes = scale_sizes(arguments.final, arguments.ratio)
        if arguments.total_steps is not None:
            schedule = schedule_from_total(sizes, arguments.total_steps)
        else:
            schedule = schedule_from_blocks(sizes, arguments.blocks)
    except ValueError as error:
        raise UserError(f"schedule: {error}") from None
    print("\n".join(schedule_lines(schedule)))
    return 0


def _ratio(text: str) -> float | None:
    """Read a ratio; None is a single scale."""
    try:
        return None if text == "single" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor `single`") from None


def cut_of(text: str) -> int | tuple[Cut, ...]:
    """Read the option `--blocks`."""
    try:
        return read_blocks(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither K nor a list such as 1,4,8 or 1,4,4x11+2x10"
        ) from None
