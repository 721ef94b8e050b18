"""The cost of the other systems, beside what was counted, and what a plan says of them."""

import json

import pytest

from pcb.config.loader import load_params, parse_preset
from pcb.pipeline.tasks import Pipeline
from pcb.preflight.cost import cost_of
from pcb.preflight.doctor import file_findings
from pcb.preflight.plan import forecast
from pcb.preflight.rates import Device
from pcb.preflight.systems import sampling, tokens
from pcb.published.systems import catalog
from pcb.report.times import TIMES
from tests.tasks import ROOT

COUNTED = {
    name: parts["b1"]["GFLOP per image"]
    for systems in json.loads((ROOT / TIMES).read_text()).values()
    for name, parts in systems.items()
    if name in catalog() and "GFLOP per image" in parts.get("b1", {})
}
"""By PyTorch's counter, as `python -m benchmarks systems` stores it."""


@pytest.fixture
def table1(folder: object) -> Pipeline:
    return Pipeline("table1", parse_preset(load_params(ROOT / "params.yaml"), "table1"))


@pytest.mark.parametrize("name", COUNTED)
def test_operations_are_nearly_the_counted_ones(name: str) -> None:
    assert sampling(catalog()[name]) / 1e9 == pytest.approx(COUNTED[name], rel=0.05)


def test_a_plan_counts_weights_images_and_time(table1: Pipeline) -> None:
    lines, _ = forecast(table1, Device(name="H100", stored={}))
    by_stage = {line.stage: line for line in lines}
    assert by_stage["sample"].tasks == 3 + 6 and by_stage["sample"].seconds.low > 0
    task = table1.task("sample", "var-d16/published")
    assert tokens(catalog()["VAR-d16"]) == 680
    assert cost_of(task, table1.preset).bytes == 2 * 680 * 50_000
    weights = cost_of(table1.task("train", "llamagen-l"), table1.preset)
    assert weights.bytes == 4 * 342_910_976 and not weights.works


def test_doctor_looks_for_every_systems_files(table1: Pipeline) -> None:
    found = {finding.thing: finding for finding in file_findings(table1)}
    for name in ("LlamaGen-L", "NAR-L", "VAR-d16", "VAR-d16-tokenizer", "llamagen"):
        assert found[name].problem is not None
    assert "PAR-L-4x" not in found
    assert found["VAR-d16"].problem == "`pcb fetch VAR-d16`"
    assert "is not named" in str(found["NAR-L"].problem)
