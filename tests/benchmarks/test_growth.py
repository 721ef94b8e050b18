"""Curves of time and memory: their arithmetic, their page, and real points of them."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import torch
from msgspec.structs import replace

from benchmarks import pages as module
from benchmarks.__main__ import build_parser, chosen_parts
from benchmarks.growth import CURVES, measured_curves
from benchmarks.measure import FAST, Measured, Results, measure, measure_part
from benchmarks.pages import END, RECORD_GROWTH, begin_of, growth_lines
from pcb.cli.main import run
from pcb.errors import UserError
from tests.benchmarks.test_harness import MACHINE

CPU = torch.device("cpu")


def point(name: str, seconds: float) -> Measured:
    return Measured(
        name=name,
        item="calls",
        precision="float32",
        items=1,
        seconds={FAST: (seconds,) * 3},
        memory=2**30,
    )


def multiprocessing_children() -> int:
    """Return how many of this machine's processes were spawned by Python's multiprocessing."""
    return sum("multiprocessing.spawn" in command for command in commands())


def commands() -> Iterator[str]:
    """Yield the command lines of this machine's processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # It may have ended.
            yield path.read_text(errors="replace")


def growth(*seconds: float) -> Results:
    """Points of the first curve."""
    numbers = list(CURVES[0].numbers)[: len(seconds)]
    assert numbers == [85, 341, 1365][: len(seconds)]
    pairs = zip(numbers, seconds, strict=True)
    parts = tuple(point(f"training/{number}", time) for number, time in pairs)
    return Results(machine=MACHINE, parts=parts)


def test_growth_is_the_exponent_from_the_point_before() -> None:
    assert exponents(growth(1, 4, 4)) == ["-", "n^1.00", "n^0.00"]
    first, second, third = growth(1, 4, 4).parts
    gone = replace(second, failure="gone", seconds={})
    assert exponents(Results(machine=MACHINE, parts=(first, gone, third))) == ["-", "-", "-"]


def exponents(results: Results) -> list[str]:
    """Return the column `grows as`."""
    _, _, *rows = [line for line in growth_lines(results) if line.startswith("|")]
    return [row.split("|")[5].strip() for row in rows]


def test_the_page_takes_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, picture = tmp_path / "scale.md", tmp_path / "scale.png"
    monkeypatch.setattr(module, "SCALE", page)
    monkeypatch.setattr(module, "PICTURE", picture)
    begin = begin_of("cuda", RECORD_GROWTH)
    page.write_text(f"before\n{begin}\nold\n{END}\nafter\n")
    module.store_growth(growth(2 * 85 / 341, 2))
    text = page.read_text()
    assert "old" not in text and text.startswith("before") and text.endswith("after\n")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert [
        "training step, S-2x, one image",
        "tokens",
        "341",
        "2 s",
        "n^1.00",
        "1,024 MiB",
    ] in cells
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_point_is_measured() -> None:
    (part,) = chosen_parts(["tokens/1024"], curves=True)
    found = measure_part(part, CPU)
    assert found.items == 64
    assert 0 < found.median < 1
    assert found.memory is not None and found.memory > 2**20


def test_ranks_step_together_and_end_with_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    """Points are measured in processes of their own, whose ranks are processes again."""
    before = multiprocessing_children()
    found = measure(chosen_parts(["ranks"], curves=True), CPU, apart=True)
    ((curve, points),) = measured_curves(found)
    assert curve.name == "ranks" and [number for number, _ in points] == [1, 2]
    assert all(part.median > 0 for _, part in points)
    assert "Traceback" not in capfd.readouterr().err
    limit = time.monotonic() + 30
    while multiprocessing_children() > before:
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert any("2 |" in line for line in growth_lines(found))


def test_a_curve_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no part begins so; there are training/85, training/341"):
        chosen_parts(["nonsense"], curves=True)
    assert run(build_parser(), ["--growth", "nonsense"]) == 1
    assert (
        "benchmarks nonsense: no part begins so; there are training/85" in capsys.readouterr().err
    )


def test_ranks_are_curves_of_a_cpu_and_no_curve_has_a_stored_ratio(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [
        {part.name for part in chosen_parts((), torch.device(d), curves=True)}
        for d in ("cpu", "cuda")
    ]
    assert names[0] - names[1] == {"ranks/1", "ranks/2"} and not names[1] - names[0]
    assert run(build_parser(), ["--growth", "--check", "--device", "cpu"]) == 1
    assert "no ratios of these parts" in capsys.readouterr().err


def test_growth_survives_json() -> None:
    found = growth(1, 2)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Results) == found
