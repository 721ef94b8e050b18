"""Table 1's other systems in a report: measured beside published, times of one machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pcb.config.loader import load_params, parse_preset
from pcb.errors import UserError
from pcb.pipeline.tasks import Pipeline
from pcb.published.systems import catalog
from pcb.report.evidence import Evidence
from pcb.report.figures import plot_figures
from pcb.report.published import HEADER, published_systems, published_table, timed_name
from pcb.report.system_figures import systems_figure, timed_points
from pcb.report.system_rows import SystemRow, make_system_row
from pcb.report.times import NONE, NOT_MEASURED, TIMES, read_times
from tests.tasks import ROOT

STORED = {
    "NVIDIA X": {
        "VAR-d16": {
            "b1": {"ms": 20.0, "images": 1},
            "b1-decoded": {"ms": 5.0, "images": 1},
            "b64": {"ms": 160.0, "images": 64},
        },
        "NAR-L": {"b1": {"ms": 80.0, "images": 1}},
    },
    "NVIDIA Y": {"VAR-d16": {"b1": {"ms": 1.0, "images": 1}}},
}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "systems.json"
    path.write_text(json.dumps(STORED))
    return path


@pytest.fixture
def row() -> SystemRow:
    preset = parse_preset(load_params(ROOT / "params.yaml"), "table1")
    scores = {"fid": 3.51, "is": 280.0, "precision": 0.84, "recall": 0.5}
    sampling = {"images": 50000, "steps": 10, "seconds_per_image": 0.01}
    return make_system_row(preset, "var-d16", scores, sampling, {"parameters": 310_283_520})


def lines(**facts: object) -> dict[str, dict[str, str]]:
    arguments = {"rows": [], "parameters": {}, "comparable": True, "steps": 17, "sampled_on": {}}
    table = published_table(**arguments | facts)  # type: ignore[arg-type]
    return {line[0]: dict(zip(HEADER, line, strict=True)) for line in table.rows}


def test_measured_stands_beside_published(row: SystemRow, stored: Path) -> None:
    found = lines(
        systems=[row], sampled_on={"var-d16/published": "a GPU"}, times=read_times(stored)
    )
    assert len(found) == 14
    var = found["VAR-d16"]
    assert (var["FID, published"], var["FID, measured"]) == ("3.30", "3.510")
    assert (var["FID, difference"], var["IS, difference"]) == ("+0.21", "+5.60")
    assert (var["params (M), counted"], var["model calls, counted"]) == ("310.28", "10")
    assert (var["s per image, published"], var["s per image, measured"]) == ("0.12", "0.0100")
    assert (var["ms, one image alone"], var["images/s, best batch"]) == ("20.0", "400")
    assert (var["timed on"], var["measured on"]) == ("NVIDIA X", "a GPU")
    par = found["PAR-L-4x"]
    assert par["ms, one image alone"] == par["timed on"] == NOT_MEASURED
    assert par["FID, measured"] == "not run"


def test_weights_that_are_not_the_released_ones_stand_apart(row: SystemRow) -> None:
    found = lines(systems=[replace(row, released=False, setting="toy")])
    assert found["VAR-d16"]["FID, measured"] == "not run"
    assert found["VAR-d16 (toy)"]["type"] == "random weights, not comparable"
    assert len(lines(systems=[row], comparable=False)) == 15


def test_the_caption_says_where_released_weights_gave_another_row() -> None:
    table = published_table([], {}, comparable=True, steps=17, sampled_on={})
    assert "the released weights of RandAR-L gave FID 2.65" in table.caption
    assert "LlamaGen" not in table.caption


def test_times_are_those_of_the_machine_with_most_systems(stored: Path) -> None:
    times = read_times(stored)
    assert times.machine == "NVIDIA X"
    assert (times.milliseconds("VAR-d16"), times.per_second("VAR-d16")) == (20, 400)
    assert times.milliseconds("LPD-L") is None and times.per_second("LPD-L") is None
    assert read_times(stored.with_name("none")) == NONE
    stored.write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_times(stored)


def test_stored_times_are_of_systems_that_there_are() -> None:
    names = {timed_name(system) for system in published_systems()}
    assert set(catalog()) < names
    for systems in json.loads((ROOT / TIMES).read_text()).values():
        assert set(systems) <= names
        for name, parts in systems.items():
            calls = {part["model calls"] for part in parts.values()}
            assert name not in catalog() or calls == {catalog()[name].steps}


def test_figure_has_a_point_for_what_was_timed(row: SystemRow, stored: Path) -> None:
    points = {point.name: point for point in timed_points([], [row], read_times(stored))}
    assert set(points) == {"VAR-d16", "NAR-L"}
    assert (points["VAR-d16"].published, points["VAR-d16"].measured) == (3.30, 3.51)
    assert points["NAR-L"].measured is None
    (panel,) = systems_figure(list(points.values())).axes
    assert sorted(line.get_marker() for line in panel.lines) == ["o", "x", "x"]


def test_only_the_papers_data_has_the_figure(
    folder: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(ROOT / "params.yaml")
    for name, shown in (("table1", True), ("table1-smoke", False)):
        evidence = Evidence.of(Pipeline(name, parse_preset(params, name)))
        names = {d.name for d in plot_figures(evidence, evidence.rows(), read_times(stored))}
        assert ("systems" in names) == shown
        assert "systems" not in {d.name for d in plot_figures(evidence, evidence.rows(), NONE)}
