"""Timing that noise disturbs little: variants in turn, medians, and peak memory."""

import ctypes
import gc
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median, quantiles

import torch
from torch.autograd.profiler import profile

from benchmarks.case import Case

_LEAST_SECONDS = 0.05
"""A call that is shorter is made several times in a row."""
_LONG_SECONDS = 1.0
"""A call on a CPU that is longer than this needs no second look before it is timed."""
_LEAST_ROUNDS = 3


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Return the seconds of one call, the mean over `calls` in a row."""
    synchronise(device)
    started = time.perf_counter()
    for _ in range(calls):
        run()
    synchronise(device)
    return (time.perf_counter() - started) / calls


def interleaved(
    case: Case, device: torch.device, rounds: int, budget: float
) -> dict[str, tuple[float, ...]]:
    """Return the seconds of every variant, one entry a round.

    Every variant runs once unmeasured. A round then runs all of them in turn, so that whatever
    slows the machine down slows all of them. Once `budget` seconds are spent, three rounds must do.
    """
    started = time.perf_counter()
    first: dict[str, float] = {}
    for name, run in case.variants.items():
        # The first call allocates, compiles, captures; the second tells how long one takes.
        first[name] = seconds_of(run, device)
        if first[name] < _LONG_SECONDS or device.type == "cuda":
            first[name] = seconds_of(run, device)
    calls = {name: math.ceil(_LEAST_SECONDS / max(s, 1e-7)) for name, s in first.items()}
    found: dict[str, list[float]] = {name: [] for name in case.variants}
    for done in range(rounds):
        if done >= _LEAST_ROUNDS and time.perf_counter() - started > budget:
            break
        for name, run in case.variants.items():
            found[name].append(seconds_of(run, device, calls[name]))
    return {name: tuple(seconds) for name, seconds in found.items()}


def quartiles(values: tuple[float, ...]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(of: tuple[float, ...], to: tuple[float, ...]) -> float:
    """Return the median, over rounds, of one variant's time as a multiple of the other's."""
    return median(a / b for a, b in zip(of, to, strict=True))


def peak_memory(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the most bytes that were held during a call, of everything in this process.

    On a GPU what torch had allocated, weights and caches too. On the CPU the resident set, Python
    and libraries too; None where the system cannot tell (Linux can).
    """
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        run()
        return _status()["VmHWM"]
    return None


def operator_share(run: Callable[[], object], device: torch.device) -> float | None:
    """Return the share of a call's time that passes inside PyTorch's operators; the rest is Python.

    The profiler's own time counts as the rest. None on a GPU, where a call returns before its work.
    """
    if device.type != "cpu":
        return None
    # Its library would log that there is no GPU; it reads this when it is first used.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile() as recorded:
        seconds = seconds_of(run, device)
    inside = sum(event.self_cpu_time_total for event in recorded.key_averages())
    return inside / 1e6 / seconds


def give_back_memory() -> None:
    """Return to the system what is no longer used, as far as its allocators can be told to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # Only glibc has it.
        ctypes.CDLL(None).malloc_trim(0)


def _status() -> Mapping[str, int]:
    """Return the entries of /proc/self/status that are sizes, in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"}
