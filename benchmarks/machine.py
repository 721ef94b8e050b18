"""What a machine does at best: rates measured in the same run as the parts that they bound."""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from msgspec.structs import replace

import pcb
from pcb.config import Settings
from pcb.runtime.device import DTYPES, set_tf32
from pcb.runtime.environment import code_version, package_versions, processor_name

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""Of tensors; `tf32` rounds those that float32 convolutions multiply."""

_SECONDS = 0.2
_SIDES = {"cpu": ((512,), (1024,), (2048,)), "cuda": ((8192,),)}
"""Of square matrices."""
_SHAPES = {"cpu": ((1, 512, 16), (1, 512, 64)), "cuda": ((64, 512, 64),)}
"""Images, channels and side."""
_LONG = 0.1
"""Seconds of a call after which nothing larger is tried: some CPUs emulate 16 bits."""
_COPIED_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}
"""More than any cache holds."""


class Phase(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work that ends before the next phase begins: operations, and bytes that must be moved.

    Bytes are those that no program could spare: weights and caches read once, results written.
    """

    flops: float
    bytes: float


class Machine(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device, `cpu` or `cuda`, and its rates.

    matrix, convolution: precision -> operations per second in square matrix products and in 3x3
    convolutions. bandwidth: bytes per second of a copy, read and written ones counted.
    """

    kind: str
    name: str
    cores: int
    threads: int
    versions: dict[str, str]
    commit: str | None
    modified: bool | None
    matrix: dict[str, float]
    convolution: dict[str, float]
    bandwidth: float

    def best(self, other: "Machine") -> "Machine":
        """Return this machine with the higher of two measurements of each rate."""

        def higher(rates: dict[str, float], others: dict[str, float]) -> dict[str, float]:
            return rates | {name: max(rates.get(name, 0), others[name]) for name in others}

        return replace(
            self,
            matrix=higher(self.matrix, other.matrix),
            convolution=higher(self.convolution, other.convolution),
            bandwidth=max(self.bandwidth, other.bandwidth),
        )

    def bound(self, phases: Iterable[Phase], precision: str) -> float:
        """Return the least seconds of phases in turn, each bound by arithmetic or by memory."""
        rate = max(self.matrix[precision], self.convolution[precision])
        return sum(max(p.flops / rate, p.bytes / self.bandwidth) for p in phases)


def measure_machine(device: torch.device, precisions: Iterable[str]) -> Machine:
    """Measure matrix products and convolutions of each precision, and copies."""
    commit, modified = code_version(Path(pcb.__file__).parent)
    gpu, names = device.type == "cuda", sorted(set(precisions))
    return Machine(
        kind=device.type,
        name=torch.cuda.get_device_name(device) if gpu else processor_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        versions=package_versions(),
        commit=commit,
        modified=modified,
        matrix={name: _best_rate(_matrix_product, _SIDES, device, name) for name in names},
        convolution={name: _best_rate(_convolution, _SHAPES, device, name) for name in names},
        bandwidth=_bandwidth(device),
    )


Problem = tuple[float, Callable[[], object]]
"""Operations, and the call that does them."""


def _matrix_product(device: torch.device, dtype: torch.dtype, side: int) -> Problem:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3, lambda: torch.mm(a, b, out=out)


def _convolution(
    device: torch.device, dtype: torch.dtype, images: int, channels: int, side: int
) -> Problem:
    """Channels last suit most libraries best."""
    x, weight = (
        torch.randn(shape, device=device).to(dtype, memory_format=torch.channels_last)
        for shape in ((images, channels, side, side), (channels, channels, 3, 3))
    )
    return 2 * images * side**2 * 9 * channels**2, lambda: F.conv2d(x, weight, padding=1)


def _best_rate(
    problem: Callable[..., Problem],
    sizes: Mapping[str, Iterable[tuple[int, ...]]],
    device: torch.device,
    precision: str,
) -> float:
    """Return the best rate in problems of growing size."""
    best = 0.0
    for size in sizes[device.type]:
        operations, run = problem(device, DTYPES.get(precision, torch.float32), *size)
        with convolutions_in(precision):
            seconds = _fastest(run, device)
        best = max(best, operations / seconds)
        if seconds > _LONG:
            break
    return best


def _bandwidth(device: torch.device) -> float:
    count = _COPIED_BYTES[device.type]
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / _fastest(lambda: target.copy_(source), device)


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest call; noise only ever adds to what a machine can do."""
    run()
    started, best = time.perf_counter(), math.inf
    while best == math.inf or time.perf_counter() - started < _SECONDS:
        best = min(best, seconds_of(run, device))
    return best


def seconds_of(run: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Return the seconds of one call, the mean over `calls` in a row."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return (time.perf_counter() - started) / calls


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def convolutions_in(precision: str) -> Iterator[None]:
    """Let a GPU's float32 convolutions use TF32 for a while, or forbid it."""
    before = torch.backends.cudnn.allow_tf32
    set_tf32(precision == "tf32")
    try:
        yield
    finally:
        set_tf32(before)
