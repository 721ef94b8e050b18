"""The machine's best rates, measured in the same run as the parts that they bound."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch.backends.cpu import get_cpu_capability

import pcb
from pcb.config import Settings
from pcb.runtime.device import DTYPES, set_tf32
from pcb.runtime.environment import code_version, package_versions, processor_name

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""Of tensors; `tf32` rounds those that float32 convolutions multiply."""

_SECONDS = 0.2
_SIDES = {"cpu": (512, 1024, 2048), "cuda": (8192,)}
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
        rates = ((self.matrix, other.matrix), (self.convolution, other.convolution))
        matrix, convolution = (
            own | {name: max(own.get(name, 0), rate) for name, rate in others.items()}
            for own, others in rates
        )
        bandwidth = max(self.bandwidth, other.bandwidth)
        return replace(self, matrix=matrix, convolution=convolution, bandwidth=bandwidth)

    def bound(self, phases: Iterable[Phase], precision: str) -> float:
        """Return the least seconds of phases in turn, each bound by arithmetic or by memory."""
        rate = max(self.matrix[precision], self.convolution[precision])
        return sum(max(p.flops / rate, p.bytes / self.bandwidth) for p in phases)


def measure_machine(device: torch.device, precisions: Iterable[str]) -> Machine:
    """Measure matrix products and convolutions of each precision, and copies."""
    commit, modified = code_version(Path(pcb.__file__).parent)
    gpu, names = device.type == "cuda", sorted(set(precisions))
    source = torch.ones(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    copy = partial(torch.empty_like(source).copy_, source)
    return Machine(
        kind=device.type,
        name=torch.cuda.get_device_name(device) if gpu else _cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        versions=package_versions(),
        commit=commit,
        modified=modified,
        matrix={name: _best_rate(_matrix_products, device, name) for name in names},
        convolution={name: _best_rate(_convolutions, device, name) for name in names},
        bandwidth=2 * source.nbytes / _fastest(copy, device),
    )


def _cpu_name() -> str:
    """Return the processor, and its widest instructions: hosts may hide which of a series it is."""
    return f"{processor_name()} ({get_cpu_capability()})"


Problem = tuple[float, Callable[[], object]]
"""Operations, and the call that does them."""


def _matrix_products(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    for side in _SIDES[device.type]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        yield 2 * side**3, partial(torch.mm, a, b, out=torch.empty_like(a))


def _convolutions(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    for images, channels, side in _SHAPES[device.type]:
        x, weight = (
            # Channels last suit most libraries best.
            torch.randn(shape, device=device).to(dtype, memory_format=torch.channels_last)
            for shape in ((images, channels, side, side), (channels, channels, 3, 3))
        )
        yield 2 * images * side**2 * 9 * channels**2, partial(F.conv2d, x, weight, padding=1)


def _best_rate(
    problems: Callable[[torch.device, torch.dtype], Iterator[Problem]],
    device: torch.device,
    precision: str,
) -> float:
    """Return the best rate in problems of growing size."""
    best = 0.0
    with convolutions_in(precision):
        for operations, run in problems(device, DTYPES.get(precision, torch.float32)):
            seconds = _fastest(run, device)
            best = max(best, operations / seconds)
            if seconds > _LONG:
                break
    return best


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest call; noise only ever adds to what a machine can do."""
    run()
    seconds = [seconds_of(run, device)]
    while sum(seconds) < _SECONDS:
        seconds.append(seconds_of(run, device))
    return min(seconds)


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
