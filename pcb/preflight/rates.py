"""Measured rates of a device for each kind of work, or estimates from another device. No torch.

`python -m benchmarks --record` writes `RATES`. What was measured on another device alone, or for
models of another width, becomes a range; what was never measured, a fraction of a datasheet's peak.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pcb.errors import UserError
from pcb.runtime.stored import read_stored

RATES = Path("benchmarks") / "rates.json"
"""``{device: {kind: {precision: {width: {"flops_per_second": number, "measured": text}}}}}``, by
`stored_precision` and `stored_width`; in git."""
Kind = Literal["training", "sampling", "encoding", "decoding", "features"]
Precision = Literal["float32", "tf32", "16 bits"]
UTILIZATION = (0.1, 0.4)
"""Fractions of a datasheet's peak between which lies what was never measured anywhere."""


@dataclass(frozen=True, kw_only=True)
class Datasheet:
    """What a vendor prints: dense operations per second by precision, bytes per second."""

    peaks: Mapping[Precision, float]
    bandwidth: float


def _datasheet(half: float, tf32: float, float32: float, bandwidth: float) -> Datasheet:
    """Return a datasheet of numbers in TFLOP/s and TB/s."""
    peaks: dict[Precision, float] = {"16 bits": half, "tf32": tf32, "float32": float32}
    return Datasheet(
        peaks={name: 1e12 * peak for name, peak in peaks.items()}, bandwidth=1e12 * bandwidth
    )


DATASHEETS = {
    "A100": _datasheet(312, 156, 19.5, 2.04),
    "H100": _datasheet(989, 494, 67, 3.35),
    "H200": _datasheet(989, 494, 67, 4.8),
    "L40S": _datasheet(362, 183, 91.6, 0.864),
}


@dataclass(frozen=True, kw_only=True)
class Range:
    """Seconds, or hours, of which only the ends are known."""

    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: "Range") -> "Range":
        return Range(low=self.low + other.low, high=self.high + other.high)

    def __mul__(self, factor: float) -> "Range":
        return Range(low=factor * self.low, high=factor * self.high)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Operations per second of one kind of work, at least and at most, and where they come from."""

    least: float
    most: float
    source: str

    def seconds(self, operations: float) -> Range:
        """Return how long so many operations take."""
        return Range(low=operations / self.most, high=operations / self.least)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device by name, such as `H100`.

    stored: what `RATES` holds. utilization: the fraction of its datasheet's peak that is taken for
    what was not measured on it; None for what other devices and `UTILIZATION` let expect.
    """

    name: str
    stored: Mapping[str, Any]
    utilization: float | None = None

    def rate(self, kind: Kind, precision: Precision, width: int | None = None) -> Rate:
        """Return the rate of a kind of work, in a transformer of this width if it is one.

        Raises UserError for a device that was not measured and has no datasheet here.
        """
        own = self._measured(self.name, kind, precision, width)
        if own is not None:
            return own
        if self.name not in DATASHEETS:
            raise UserError(
                f"--gpu {self.name}: {kind} was not measured on it "
                f"(`python -m benchmarks --record`), and its datasheet is not known; known are "
                f"{', '.join(DATASHEETS)}"
            )
        elsewhere = [] if self.utilization else list(self._elsewhere(kind, precision, width))
        if elsewhere:
            return min(elsewhere, key=lambda rate: rate.most / rate.least)
        peak = DATASHEETS[self.name].peaks[precision]
        least, most = (self.utilization,) * 2 if self.utilization else UTILIZATION
        fraction = f"{100 * least:g}" if least == most else f"{100 * least:g} to {100 * most:g}"
        source = f"{fraction} % of {peak / 1e12:g} TFLOP/s by the datasheet"
        return Rate(least=least * peak, most=most * peak, source=source)

    def _measured(
        self, device: str, kind: Kind, precision: Precision, width: int | None
    ) -> Rate | None:
        """Return what was measured on a device, of all widths where this one was not."""
        found = self.stored.get(device, {}).get(kind, {}).get(precision, {})
        chosen = found.get(stored_width(width))
        rates = [chosen] if chosen else list(found.values())
        if not rates:
            return None
        numbers = [rate["flops_per_second"] for rate in rates]
        source = "; ".join(rate["measured"] for rate in rates)
        return Rate(least=min(numbers), most=max(numbers), source=source)

    def _elsewhere(self, kind: Kind, precision: Precision, width: int | None) -> Iterator[Rate]:
        """Yield what was measured on other devices, scaled by their peaks and by their memory.

        Work is bound by arithmetic, by memory or partly by both: it lies between the two.
        """
        own = DATASHEETS[self.name]
        for name in self.stored:
            rate = self._measured(name, kind, precision, width)
            if rate is None or name not in DATASHEETS:
                continue
            other = DATASHEETS[name]
            scales = (
                own.peaks[precision] / other.peaks[precision],
                own.bandwidth / other.bandwidth,
            )
            yield Rate(
                least=rate.least * min(scales),
                most=rate.most * max(scales),
                source=f"{rate.source}, times {min(scales):.2g} to {max(scales):.2g} by datasheets",
            )


def load_device(name: str, utilization: float | None = None) -> Device:
    """Return a device with all rates that are stored. Raises UserError as `read_stored`."""
    return Device(name=name, stored=read_stored(RATES), utilization=utilization)


def stored_precision(precision: str) -> Precision:
    """Return what a precision is stored under: bfloat16 and float16 are one."""
    exact: dict[str, Precision] = {"float32": "float32", "tf32": "tf32"}
    return exact.get(precision, "16 bits")


def stored_width(width: int | None) -> str:
    """Return what a width is stored under."""
    return "any" if width is None else f"width {width}"
