"""What a machine can do at best, measured in the same run as the parts that it bounds."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F

import pcb
from benchmarks.case import Phase
from benchmarks.timing import seconds_of
from pcb.config import Settings
from pcb.runtime.device import DTYPES
from pcb.runtime.environment import code_version, package_versions, processor_name

_SECONDS = 0.2
"""Time given to each of the machine's measurements."""
_SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the matrices that are multiplied: large enough for the full rate."""
_CONVOLVED = {"cpu": (1, 512, 64), "cuda": (64, 512, 64)}
"""Images, channels and side of what is convolved."""
_LAYOUT = torch.channels_last
_COPIED = {"cpu": 256 * 2**20, "cuda": 2**30}
"""Bytes that are copied: more than any cache holds."""


class Machine(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device, and its rates.

    matrix, convolution: precision -> operations a second in square matrix products and in 3x3
    convolutions, of which one library may do better than another's. bandwidth: bytes a second of a
    copy, read and written ones counted.
    """

    kind: str
    """`cpu` or `cuda`."""
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
        return msgspec.structs.replace(
            self,
            matrix=_higher(self.matrix, other.matrix),
            convolution=_higher(self.convolution, other.convolution),
            bandwidth=max(self.bandwidth, other.bandwidth),
        )

    def bound(self, phases: Iterable[Phase], precision: str) -> float:
        """Return the least seconds of phases one after the other.

        Each is bound by its arithmetic or by its memory, whichever takes longer.
        """
        rate = max(self.matrix[precision], self.convolution[precision])
        return sum(max(p.flops / rate, p.bytes / self.bandwidth) for p in phases)


def measure_machine(device: torch.device, precisions: Iterable[str]) -> Machine:
    """Measure matrix products of each precision, and copies."""
    commit, modified = code_version(Path(pcb.__file__).parent)
    names = sorted(set(precisions))
    gpu = device.type == "cuda"
    return Machine(
        kind=device.type,
        name=torch.cuda.get_device_name(device) if gpu else processor_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        versions=package_versions(),
        commit=commit,
        modified=modified,
        matrix={name: _matrix_rate(device, name) for name in names},
        convolution={name: _convolution_rate(device, name) for name in names},
        bandwidth=_bandwidth(device),
    )


def _matrix_rate(device: torch.device, precision: str) -> float:
    side = _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / _fastest(lambda: torch.mm(a, b, out=out), device)


def _convolution_rate(device: torch.device, precision: str) -> float:
    images, channels, side = _CONVOLVED[device.type]
    shapes = (images, channels, side, side), (channels, channels, 3, 3)
    x, weight = (
        torch.randn(shape, device=device).to(DTYPES[precision], memory_format=_LAYOUT)
        for shape in shapes
    )
    operations = 2 * images * side**2 * 9 * channels**2
    return operations / _fastest(lambda: F.conv2d(x, weight, padding=1), device)


def _higher(rates: Mapping[str, float], others: Mapping[str, float]) -> dict[str, float]:
    return {name: max(rate, others[name]) for name, rate in rates.items()}


def _bandwidth(device: torch.device) -> float:
    count = _COPIED[device.type]
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / _fastest(lambda: target.copy_(source), device)


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest call; noise only ever adds to what a machine can do."""
    run()
    started, found = time.perf_counter(), list[float]()
    while not found or time.perf_counter() - started < _SECONDS:
        found.append(seconds_of(run, device))
    return min(found)
