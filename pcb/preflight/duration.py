"""The time of tasks: their arithmetic at a device's rates, and their overhead. No torch."""

from collections.abc import Iterable

from pcb.config import Preset
from pcb.pipeline.task import Task
from pcb.preflight.cost import Cost, cost_of
from pcb.preflight.overhead import HOST_STEP, START
from pcb.preflight.rates import Device, Range


def time_of(task: Task, preset: Preset, device: Device) -> tuple[Range, dict[str, str]]:
    """Return the seconds of a task on one device, and where its rates come from."""
    cost, sources = cost_of(task, preset), {}
    seconds = START + cost.overhead if cost.works else Range()
    for work in cost.works:
        rate = device.rate(work.kind, work.precision, work.width)
        what = f"{work.kind} in {work.precision}"
        sources[what if work.width is None else f"{what}, width {work.width}"] = rate.source
        seconds += rate.seconds(work.flops)
    return seconds, sources


def shared_steps(costs: Iterable[Cost], device: Device, devices: int) -> Range:
    """Return the seconds of tasks each of whose steps several devices share.

    At least: tasks side by side, all devices busy all the time; but none on more than a step has
    images. At most: one after the other on all devices. No step is shorter than `HOST_STEP`.
    """
    longest = everything = one_by_one = 0.0
    for cost in costs:
        if cost.steps is None:
            continue
        seconds = Range()
        for work in cost.works:
            seconds += device.rate(work.kind, work.precision, work.width).seconds(work.flops)
        most = min(devices, cost.steps.images)
        longest = max(longest, seconds.low / most, cost.steps.number * HOST_STEP.low)
        everything += seconds.low / devices
        one_by_one += max(seconds.high / most, cost.steps.number * HOST_STEP.high)
    return Range(low=max(longest, everything), high=one_by_one)
