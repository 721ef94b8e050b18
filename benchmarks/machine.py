"""The machine's best rates, measured in the same run as the parts beside which they stand."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch.backends.cpu import get_cpu_capability

from pcb.config import Settings
from pcb.runtime.device import DTYPES, set_tf32
from pcb.runtime.environment import package_versions, processor_name

_SECONDS = 0.2
_SIDES = {"cpu": (512, 1024, 2048), "cuda": (8192,)}
"""Of square matrices."""
_SHAPES = {"cpu": ((1, 512, 16), (1, 512, 64)), "cuda": ((64, 512, 64),)}
"""Images, channels and side."""
_COPIED_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}
"""More than any cache holds."""


class Phase(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work that ends before the next phase begins: operations, and bytes that must be moved.

    Weights and caches are read once, results written. 0 bytes: arithmetic takes longer anyway.
    """

    flops: float = 0.0
    bytes: float = 0.0


class Machine(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device, `cpu` or `cuda`, and its rates.

    rates: `matrix PRECISION` and `convolution PRECISION`, operations per second in square matrix
    products and in 3x3 convolutions; `copy`, bytes per second, read and written ones counted.
    """

    kind: str
    name: str
    cores: int
    threads: int
    versions: dict[str, str]
    rates: dict[str, float]

    def best(self, other: "Machine") -> "Machine":
        """Return this machine with the higher of two measurements of each rate."""
        higher = {name: max(rate, self.rates.get(name, 0)) for name, rate in other.rates.items()}
        return replace(self, rates=self.rates | higher)

    def bound(self, phases: Iterable[Phase], precision: str) -> float:
        """Return the roofline bound in seconds: each phase waits for arithmetic or for memory."""
        rate = max(self.rates[f"{what} {precision}"] for what in ("matrix", "convolution"))
        return sum(max(p.flops / rate, p.bytes / self.rates["copy"]) for p in phases)


def measure_machine(device: torch.device, precisions: Iterable[str]) -> Machine:
    """Measure matrix products and convolutions of each precision, and copies."""
    source = torch.ones(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    copy = partial(torch.empty_like(source).copy_, source)
    rates = {"copy": _best_rate([(2 * source.nbytes, copy)], device)}
    for name in precisions:
        dtype = DTYPES.get(name, torch.float32)
        with convolutions_in(name):
            rates[f"matrix {name}"] = _best_rate(_matrix_products(device, dtype), device)
            rates[f"convolution {name}"] = _best_rate(_convolutions(device, dtype), device)
    # A host may hide which of a series its processor is; the widest instructions tell.
    cpu = f"{processor_name()} ({get_cpu_capability()})"
    return Machine(
        kind=device.type,
        name=torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        versions=package_versions(),
        rates=rates,
    )


Problem = tuple[float, Callable[[], object]]
"""Operations or bytes, and the call that does or moves them."""


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


def _best_rate(problems: Iterable[Problem], device: torch.device) -> float:
    """Return the best rate in any of the problems: noise only ever takes from it."""
    rates = []
    for size, run in problems:
        run()
        end = time.perf_counter() + _SECONDS
        while time.perf_counter() < end:
            rates.append(size / seconds_of(run, device))
    return max(rates)


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
