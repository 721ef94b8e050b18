"""The harness: its arithmetic on parts whose times are known, and one run of it on small ones."""

import json
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from msgspec.structs import replace

from benchmarks import __main__ as command
from benchmarks import machine, pages, stages
from benchmarks import measure as module
from benchmarks.__main__ import build_parser, chosen_parts
from benchmarks.machine import Machine, Phase, convolutions_in
from benchmarks.measure import (
    BASELINE,
    FAST,
    Case,
    Measured,
    Part,
    Results,
    measure,
    measure_part,
    operator_fraction,
    peak_memory,
)
from benchmarks.pages import (
    END,
    RECORD,
    begin_of,
    losses,
    read_ratios,
    store_page,
    store_rates,
    store_ratios,
    table_lines,
    time_text,
)
from pcb.cli.main import run
from pcb.errors import UserError
from pcb.preflight.rates import Device
from pcb.runtime.stored import read_stored

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MACHINE = Machine(
    kind="cuda",
    name="NVIDIA H100 80GB HBM3",
    cores=1,
    threads=1,
    versions={"pcb": "1", "python": "3", "torch": "2"},
    rates={
        "copy": 1e11,
        "matrix float32": 1e12,
        "matrix bfloat16": 1e12,
        "convolution float32": 1e11,
        "convolution bfloat16": 1e13,
    },
)


@pytest.fixture(scope="module")
def slept() -> Results:
    """Results of a part whose baseline sleeps four times as long.

    Sleep puts the clock forward, and takes no time: a busy machine would prolong it.
    """
    slept = [0.0]

    def sleep(seconds: float) -> None:
        slept[0] += seconds

    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + slept[0])
    case = Case(
        variants={FAST: partial(sleep, 0.01), BASELINE: partial(sleep, 0.04)},
        items=5,
        phases=(Phase(flops=1e6, bytes=1e3), Phase(flops=1e3, bytes=1e6)),
        compare=lambda one, other: {"codes": other - one},
        outputs={FAST: lambda: 0.5, BASELINE: lambda: 0.75},
        facts={"model calls": 17},
        width=64,
    )
    part = Part(name="sleeping/soundly", item="naps", make=lambda device: case, kind="sampling")
    with pytest.MonkeyPatch.context() as patch:
        for module_of_clock in (machine, module):
            patch.setattr(module_of_clock, "time", clock)
        return measure([part], CPU)


def of_h100(results: Results) -> Results:
    return replace(results, machine=MACHINE)


def test_a_bound_is_the_longer_of_arithmetic_and_memory_phase_by_phase():
    phases = [Phase(flops=2e12, bytes=1e11), Phase(flops=1e12, bytes=3e11)]
    assert MACHINE.bound(phases, "float32") == pytest.approx(2 + 3)
    assert MACHINE.bound(phases, "bfloat16") == pytest.approx(1 + 3)


def test_a_machines_rates_are_the_best_that_were_seen():
    disturbed = {"matrix float32": 2e12, "matrix bfloat16": 1e11, "matrix tf32": 3e12}
    best = MACHINE.best(replace(MACHINE, rates=disturbed))
    assert best.rates == {**MACHINE.rates, "matrix float32": 2e12, "matrix tf32": 3e12}


def test_a_part_is_timed_with_its_baseline_and_its_bound(slept):
    (part,) = slept.parts
    assert part.median == pytest.approx(0.01, rel=0.5)
    assert part.ratio(BASELINE) == pytest.approx(4, rel=0.3)
    assert part.flops == 1_001_000
    host = slept.machine
    rate = max(host.rates["matrix float32"], host.rates["convolution float32"])
    bandwidth = host.rates["copy"]
    assert part.bound == pytest.approx(
        max(1e6 / rate, 1e3 / bandwidth) + max(1e3 / rate, 1e6 / bandwidth)
    )
    assert part.fraction == part.bound / part.median
    text = "\n".join(table_lines(slept))
    assert "naps/s" in text and "codes 0.25" in text and "GFLOP/s in float32" in text
    assert "model calls" in text and "failed" not in text


def part_of(name, run):
    return Part(name=name, item="calls", make=lambda _: Case(variants={FAST: run}, items=1))


def test_a_part_that_fails_costs_no_other_part_and_says_so(monkeypatch):
    monkeypatch.setattr(module, "measure_machine", lambda *_: MACHINE)

    def fail():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nsecond line")

    parts = [part_of("a", lambda: None), part_of("b", fail), part_of("c", lambda: None)]
    kept = []
    results = measure(parts, CPU, budget=0, keep=kept.append)
    assert [bool(part.failure) for part in results.parts] == [False, True, False]
    assert [len(of.parts) for of in kept] == [1, 2, 3], "stored as they come"
    failure = "OutOfMemoryError: CUDA out of memory. Tried to allocate"
    assert results.parts[1].failure == failure
    lines = list(table_lines(results))
    assert lines[-1] == f"b failed: {failure}"
    assert any(line.startswith("| b ") and "failed" in line for line in lines)


def test_the_machine_is_measured_first_every_few_parts_and_last(monkeypatch):
    measured = []
    monkeypatch.setattr(module, "measure_machine", lambda *_: measured.append(seen[:]) or MACHINE)
    seen = []
    parts = [part_of(str(n), lambda n=n: seen.append(n)) for n in range(7)]
    monkeypatch.setattr(
        module, "measure_part", lambda part, *_: part.make(CPU).variants[FAST]() or named(part.name)
    )
    measure(parts, CPU, budget=0)
    assert [len(before) for before in measured] == [0, 5, 7]


def named(name):
    return Measured(name=name, item="calls", precision="float32", seconds={FAST: (1.0,)})


def test_float32_means_float32_unless_a_part_says_tf32():
    before = torch.backends.cudnn.allow_tf32
    with convolutions_in("tf32"):
        assert torch.backends.cudnn.allow_tf32
        with convolutions_in("float32"):
            assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_ratio_is_that_of_rounds_that_ran_together():
    """A machine that slows down tenfold in the second half leaves the ratio as it is."""
    fast, slow = (1.0, 1.0, 10.0, 10.0), (3.0, 3.0, 30.0, 30.0)
    part = replace(named("part"), seconds={FAST: fast, BASELINE: slow})
    assert part.ratio(BASELINE) == 3.0 and part.ratio("other") is None


def test_time_in_operators_is_told_from_time_in_python():
    matrix = torch.ones(500, 500)

    def multiply():
        for _ in range(20):
            matrix @ matrix

    multiply()
    assert operator_fraction(multiply, CPU) > 0.7
    assert operator_fraction(lambda: (torch.ones(1), time.sleep(0.05)), CPU) < 0.2
    assert operator_fraction(multiply, GPU) is None


def test_memory_counts_what_a_call_holds_for_a_while():
    held, idle = peak_memory(lambda: None, CPU)
    assert held == "resident"
    if idle is None:
        pytest.skip("this system tells no peak memory")
    _, busy = peak_memory(lambda: torch.ones(2**26, dtype=torch.uint8), CPU)
    assert busy - idle == pytest.approx(2**26, rel=0.1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.345, "12.3 s"), (0.99996, "1 s"), (0.0123, "12.3 ms"), (0.9994e-3, "999 us")],
)
def test_times_have_a_unit_that_suits_them(seconds, text):
    assert time_text(seconds) == text


def test_a_lost_ratio_is_told_from_noise_and_from_what_is_not_stored(slept, tmp_path):
    path = tmp_path / "ratios.json"
    with pytest.raises(UserError, match="holds no ratios of cpu"):
        read_ratios("cpu", path)
    store_ratios(slept, path)
    stored = read_ratios("cpu", path)
    assert not list(losses(stored, slept))
    stored["sleeping/soundly"][BASELINE] *= 1.2
    assert not list(losses(stored, slept)), "17 % less is noise"
    stored["sleeping/soundly"][BASELINE] *= 1.2
    ((name, text),) = losses(stored, slept)
    assert name == "sleeping/soundly" and text.startswith("baseline ")
    assert not list(losses({}, slept))
    failed = replace(slept, parts=(replace(slept.parts[0], failure="gone", seconds={}),))
    stored["sleeping/soundly"][BASELINE] = 4
    assert [text.split()[0] for _, text in losses(stored, failed)] == [BASELINE, "fraction"]


def test_a_fraction_of_the_bound_is_compared_on_the_same_processor_alone(slept, tmp_path):
    path = tmp_path / "ratios.json"
    store_ratios(slept, path)
    stored = read_ratios("cpu", path)
    stored["sleeping/soundly"]["fraction"] *= 2
    ((_, text),) = losses(stored, slept)
    assert text.startswith("fraction ")
    assert not list(losses(stored, of_h100(slept)))


@pytest.mark.parametrize(("ratios", "status"), [([1.0, 4.0], 0), ([1.0, 1.0, 1.0], 1)])
def test_a_loss_is_measured_again_before_it_is_believed(slept, monkeypatch, capsys, ratios, status):
    found = []

    def measured(parts, *_, **__):
        assert [part.name for part in parts] == ["program/order"]
        found.append(ratios[len(found)])
        part = replace(named("program/order"), seconds={FAST: (1.0,), BASELINE: (found[-1],)})
        return Results(machine=slept.machine, parts=(part,))

    monkeypatch.setattr(command, "measure", measured)
    stored = {"program/order": {BASELINE: 4.0}}
    monkeypatch.setattr(command.pages, "read_ratios", lambda kind: stored)
    assert command.check(chosen_parts(), CPU) == status
    assert found == ratios, "no more tries than are needed"
    printed = capsys.readouterr().out
    assert "try 1 of 3: program/order: baseline 1, was 4 (-75 %)" in printed


def test_the_page_takes_the_tables_of_each_kind_of_machine(slept, tmp_path, monkeypatch):
    page = tmp_path / "speed.md"
    monkeypatch.setattr(pages, "SPEED", page)
    places = [begin_of(kind, RECORD) + "\nold\n" + END for kind in ("cpu", "cuda")]
    page.write_text("\n\n".join(["# Speed", *places, "after"]))
    store_page(slept)
    store_page(slept)
    text = page.read_text()
    assert text.count("| sleeping/soundly ") == 3 and text.count("old") == 1
    assert text.index("sleeping") < text.index(begin_of("cuda", RECORD)) < text.index("after")
    page.write_text("# Speed")
    with pytest.raises(UserError, match="needs the lines"):
        store_page(slept)


def test_rates_of_a_gpu_are_what_the_plan_reads(slept, tmp_path):
    path = tmp_path / "rates.json"
    store_rates(slept, path)
    assert not path.exists(), "a CPU's rates are no GPU's"
    store_rates(of_h100(slept), path)
    rate = read_stored(path)["H100"]["sampling"]["float32"]["width 64"]
    assert rate["flops_per_second"] == pytest.approx(1_001_000 / slept.parts[0].median)
    assert "sleeping/soundly" in rate["measured"]
    known = Device(name="H100", stored=read_stored(path)).rate("sampling", "float32", 64)
    assert known.least == known.most == rate["flops_per_second"]


def test_parts_have_one_name_each_on_every_device_and_are_chosen_by_its_beginning():
    for device in (CPU, GPU):
        names = [part.name for part in chosen_parts(device=device)]
        assert len(set(names)) == len(names)
    chosen = chosen_parts(["sampling/L-2x/b8", "loading/tokens"], GPU)
    assert [part.name for part in chosen] == [
        "sampling/L-2x/b8",
        "sampling/L-2x/b8-guided",
        "loading/tokens",
    ]
    with pytest.raises(UserError, match="benchmarks nonsense: no part begins so"):
        chosen_parts(["nonsense"])


def test_the_command_measures_writes_and_reads_json(tmp_path, capsys):
    path = tmp_path / "results.json"
    names = ["sampling/uniforms", "tokenizer/decode/mini", "loading", "program/order"]
    words = ["--device", "cpu", "--json", str(path), *names]
    assert run(build_parser(), words) == 0
    printed = capsys.readouterr().out
    results = json.loads(path.read_text())
    areas = [part["name"].split("/")[0] for part in results["parts"]]
    assert areas == ["sampling", "tokenizer", "loading", "loading", "loading", "program"]
    decoding = results["parts"][1]
    assert 0 < decoding["bound"] < decoding["seconds"][FAST][0]
    assert results["machine"]["rates"]["copy"] > 0
    assert run(build_parser(), ["--from", str(path)]) == 0
    assert capsys.readouterr().out == printed
    path.write_text("{}")
    assert run(build_parser(), ["--from", str(path)]) == 1
    assert f"--from {path}: " in capsys.readouterr().err


def test_16_bits_are_compared_with_float32():
    part = measure_part(Part("any", partial(stages._decode, "mini", 2, "bfloat16")), CPU, 0)
    assert part.failure is None
    assert 0 < part.differences["float32"]["gray levels"] < 5


def test_a_feature_extractor_of_random_weights_is_timed():
    part = measure_part(Part("any", partial(stages._extract, "paper", 1, "float32")), CPU, 0)
    assert part.failure is None and part.flops > 1e10
