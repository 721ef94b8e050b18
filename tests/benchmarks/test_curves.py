"""Curves of time and memory: their arithmetic, their page, and real points of them."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import torch

from benchmarks import growth as module
from benchmarks.curves import Grown, Growth, measure_growth, measure_point
from benchmarks.growth import growth_lines
from benchmarks.measure import Measured, Variant
from benchmarks.stored import END, begin_of
from pcb.cli.main import main
from pcb.errors import UserError
from tests.benchmarks.test_run import MACHINE

CPU = torch.device("cpu")


def measured(seconds: float) -> Measured:
    fast = Variant(name="fast", seconds=(seconds,) * 3, ratio=1.0, differences={})
    return Measured(
        name="training/1",
        kind=None,
        item="calls",
        items=1,
        precision="float32",
        settings={},
        flops=None,
        bound=None,
        operators=None,
        memory=2**30,
        variants=(fast,),
    )


def commands() -> Iterator[str]:
    """Yield the command lines of this machine's processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # It may have ended.
            yield path.read_text(errors="replace")


def growth(*seconds: float) -> Growth:
    curve = Grown(
        name="training",
        title="training step",
        against="tokens",
        points=tuple(10 * 2**k for k in range(len(seconds))),
        measured=tuple(map(measured, seconds)),
    )
    return Growth(machine=MACHINE, curves=(curve,))


def test_growth_is_the_exponent_from_the_point_before() -> None:
    (curve,) = growth(1, 2, 8, 8).curves
    first, *orders = curve.orders
    assert first is None
    assert orders == pytest.approx([1, 2, 0])


def test_the_page_takes_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, picture = tmp_path / "scale.md", tmp_path / "scale.png"
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(module, "PICTURE", picture)
    begin = begin_of("cuda", module.COMMAND)
    page.write_text(f"before\n{begin}\nold\n{END}\nafter\n")
    module.store_growth(growth(0.5, 2))
    text = page.read_text()
    assert "old" not in text and text.startswith("before") and text.endswith("after\n")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["training step", "tokens", "20", "2 s", "n^2.00", "1,024 MiB"] in cells
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_point_is_measured() -> None:
    point = measure_point("tokens", 1024, CPU, torch.get_num_threads())
    assert point.items == 64
    assert 0 < point.median < 1
    assert point.memory is not None and point.memory > 2**20


def test_ranks_step_together_and_end_with_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    """Points are measured in processes of their own, whose ranks are processes again."""
    found = measure_growth(["ranks"], CPU, 1)
    (curve,) = found.curves
    assert curve.points == (1, 2)
    assert all(part.median > 0 for part in curve.measured)
    assert "Traceback" not in capfd.readouterr().err
    limit = time.monotonic() + 30
    while any("benchmarks.rank" in command for command in commands()):
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert any("2 |" in line for line in growth_lines(found))


def test_a_curve_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no such curve; there are training, sampling"):
        measure_growth(["nonsense"], CPU, 1)
    assert main(["bench", "--growth", "nonsense"]) == 1
    assert "bench --growth nonsense" in capsys.readouterr().err


def test_growth_survives_json() -> None:
    found = growth(1, 2)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Growth) == found
