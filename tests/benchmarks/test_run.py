"""The harness: its arithmetic on parts whose times are known, and one run of it on small ones."""

import json
import time

import msgspec
import pytest
import torch

from benchmarks import run
from benchmarks.case import BASELINE, FAST, Case, Part, Phase
from benchmarks.catalogue import all_parts, chosen_parts
from benchmarks.machine import Machine
from benchmarks.measure import Results, measure
from benchmarks.stored import (
    END,
    begin_of,
    losses,
    read_ratios,
    store_page,
    store_rates,
    store_ratios,
)
from benchmarks.table import table_lines, time_text
from benchmarks.timing import operator_share, peak_memory, quartiles, ratio
from pcb.cli.main import main
from pcb.errors import UserError
from pcb.preflight.rates import Device, read_stored

CPU = torch.device("cpu")
MACHINE = Machine(
    kind="cuda",
    name="NVIDIA H100 80GB HBM3",
    cores=1,
    threads=1,
    versions={"pcb": "1", "python": "3", "torch": "2"},
    commit=None,
    modified=None,
    matrix={"float32": 1e12, "bfloat16": 1e12},
    convolution={"float32": 1e11, "bfloat16": 1e13},
    bandwidth=1e11,
)


@pytest.fixture(scope="module")
def slept() -> Results:
    """Results of a part whose baseline sleeps four times as long."""
    case = Case(
        variants={FAST: lambda: time.sleep(0.01), BASELINE: lambda: time.sleep(0.04)},
        items=5,
        phases=(Phase(flops=1e6, bytes=1e3), Phase(flops=1e3, bytes=1e6)),
        differences=lambda: {BASELINE: {"codes": 0.25}},
    )
    part = Part(name="sleeping/soundly", item="naps", make=lambda device: case, kind="sampling")
    return measure([part], CPU, rounds=3, budget=10)


def of_h100(results: Results) -> Results:
    return msgspec.structs.replace(results, machine=MACHINE)


def test_a_bound_is_the_longer_of_arithmetic_and_memory_phase_by_phase():
    phases = [Phase(flops=2e12, bytes=1e11), Phase(flops=1e12, bytes=3e11)]
    assert MACHINE.bound(phases, "float32") == pytest.approx(2 + 3)
    assert MACHINE.bound(phases, "bfloat16") == pytest.approx(1 + 3)


def test_a_machines_rates_are_the_best_that_were_seen():
    disturbed = msgspec.structs.replace(MACHINE, matrix={"float32": 2e12, "bfloat16": 1e11})
    best = MACHINE.best(disturbed)
    assert best.matrix == {"float32": 2e12, "bfloat16": 1e12}
    assert best.bandwidth == MACHINE.bandwidth


def test_a_part_is_timed_with_its_baseline_and_its_bound(slept):
    (part,) = slept.parts
    assert part.median == pytest.approx(0.01, rel=0.5)
    assert part.ratio(BASELINE) == pytest.approx(4, rel=0.3)
    assert part.flops == 1_001_000
    machine = slept.machine
    rate = max(machine.matrix["float32"], machine.convolution["float32"])
    assert part.bound == pytest.approx(
        max(1e6 / rate, 1e3 / machine.bandwidth) + max(1e3 / rate, 1e6 / machine.bandwidth)
    )
    assert part.share == part.bound / part.median
    text = "\n".join(table_lines(slept))
    assert "naps/s" in text and "codes 0.25" in text and "GFLOP/s in float32" in text


def test_a_ratio_is_that_of_rounds_that_ran_together():
    """A machine that slows down tenfold in the second half leaves the ratio as it is."""
    fast, slow = (1.0, 1.0, 10.0, 10.0), (3.0, 3.0, 30.0, 30.0)
    assert ratio(slow, fast) == 3.0
    assert quartiles((1.0, 2.0, 3.0)) == (1.5, 2.0, 2.5)


def test_time_in_operators_is_told_from_time_in_python():
    matrix = torch.ones(500, 500)

    def multiply():
        for _ in range(20):
            matrix @ matrix

    multiply()
    assert operator_share(multiply, CPU) > 0.7
    assert operator_share(lambda: (torch.ones(1), time.sleep(0.05)), CPU) < 0.2
    assert operator_share(multiply, torch.device("cuda")) is None


def test_memory_counts_what_a_call_holds_for_a_while():
    idle = peak_memory(lambda: None, CPU)
    if idle is None:
        pytest.skip("this system tells no peak memory")
    busy = peak_memory(lambda: torch.ones(2**26, dtype=torch.uint8), CPU)
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
    (loss,) = losses(stored, slept)
    assert str(loss).startswith("sleeping/soundly: baseline ")
    assert not list(losses({}, slept))


def test_a_share_of_the_bound_is_compared_on_the_same_processor_alone(slept, tmp_path):
    path = tmp_path / "ratios.json"
    store_ratios(slept, path)
    stored = read_ratios("cpu", path)
    stored["sleeping/soundly"]["share"] *= 2
    (loss,) = losses(stored, slept)
    assert loss.what == "share"
    assert not list(losses(stored, of_h100(slept)))


@pytest.mark.parametrize(("ratios", "status"), [([1.0, 4.0], 0), ([1.0, 1.0, 1.0], 1)])
def test_a_loss_is_measured_again_before_it_is_believed(slept, monkeypatch, capsys, ratios, status):
    (part,) = slept.parts
    found = []

    def measured(parts, *_, **__):
        assert [part.name for part in parts] == ["program/order"]
        found.append(ratios[len(found)])
        variants = [msgspec.structs.replace(v, ratio=found[-1]) for v in part.variants]
        other = msgspec.structs.replace(part, name="program/order", variants=tuple(variants))
        return Results(machine=slept.machine, parts=(other,))

    monkeypatch.setattr(run, "measure", measured)
    monkeypatch.setattr(run, "read_ratios", lambda kind: {"program/order": {BASELINE: 4.0}})
    assert run.check(run.Options(scope="quick", device="cpu")) == status
    assert found == ratios, "no more tries than are needed"
    printed = capsys.readouterr().out
    assert "try 1 of 3: program/order: baseline 1, was 4 (-75 %)" in printed


def test_the_page_takes_the_tables_of_each_kind_of_machine(slept, tmp_path):
    page = tmp_path / "speed.md"
    places = [begin_of(kind) + "\nold\n" + END for kind in ("cpu", "cuda")]
    page.write_text("\n\n".join(["# Speed", *places, "after"]))
    store_page(slept, page)
    store_page(slept, page)
    text = page.read_text()
    assert text.count("sleeping/soundly") == 2 and text.count("old") == 1
    assert text.index("sleeping") < text.index(begin_of("cuda")) < text.index("after")
    page.write_text("# Speed")
    with pytest.raises(UserError, match="needs the lines"):
        store_page(slept, page)


def test_rates_of_a_gpu_are_what_the_plan_reads(slept, tmp_path):
    path = tmp_path / "rates.json"
    store_rates(slept, path)
    assert not path.exists(), "a CPU's rates are no GPU's"
    store_rates(of_h100(slept), path)
    rate = read_stored(path)["H100"]["sampling"]["float32"]
    assert rate["flops_per_second"] == pytest.approx(1_001_000 / slept.parts[0].median)
    assert "sleeping/soundly" in rate["measured"]
    assert Device(name="H100", utilisation=0.3).name in read_stored(path)


def test_parts_have_one_name_each_in_every_scope_and_are_chosen_by_its_beginning():
    for scope in ("quick", "short", "full"):
        names = [part.name for part in all_parts(scope)]
        assert len(set(names)) == len(names)
    chosen = chosen_parts("full", ["sampling/L-2x/b8", "loading/tokens"])
    assert [part.name for part in chosen] == [
        "sampling/L-2x/b8",
        "sampling/L-2x/b8-guided",
        "loading/tokens",
    ]
    with pytest.raises(UserError, match="bench nonsense: no part begins so"):
        chosen_parts("quick", ["nonsense"])


def test_the_command_measures_and_prints_json(capsys):
    names = ["sampling/uniforms", "tokenizer", "loading", "program/order"]
    assert main(["bench", "--quick", "--device", "cpu", "--json", *names]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [part["name"].split("/")[0] for part in results["parts"]] == [
        "sampling",
        "tokenizer",
        "tokenizer",
        "loading",
        "loading",
        "program",
    ]
    decoding = results["parts"][1]
    assert 0 < decoding["bound"] < decoding["variants"][0]["seconds"][0]
    _, float32 = results["parts"][2]["variants"]
    assert 0 < float32["differences"]["grey levels"] < 5
    assert results["machine"]["bandwidth"] > 0
