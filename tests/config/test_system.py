"""Models of a preset that are other systems of Table 1."""

from typing import Any

import pytest

from pcb.config import Preset
from pcb.config.loader import load_params, parse_preset
from pcb.errors import UserError
from pcb.pipeline.tasks import Pipeline
from tests.tasks import ROOT


def preset_with(change: dict[str, Any], name: str = "table1-smoke") -> Preset:
    params = load_params(ROOT / "params.yaml")
    own = params["presets"][name]
    own["models"] = {**own["models"], **change.pop("models", {})}
    own |= change
    return parse_preset(params, name)


def test_presets_have_the_systems_that_can_be_had() -> None:
    released = preset_with({}, "table1").systems
    assert [run.system for run in released.values()] == [
        "LlamaGen-L", "RandAR-L", "NAR-L", "ARPG-L", "LPD-L", "VAR-d16",
    ]  # fmt: skip
    assert all(run.weights == "released" and not run.size for run in released.values())
    toys = preset_with({}).systems
    assert len(toys) == 7 and all(run.weights == "random" for run in toys.values())
    assert toys["llamagen-l"].described.description["grid"] == (12, 12)
    assert toys["arpg-l"].described.description["curve"] == "first release"
    assert toys["var-d16"].described.schedule_steps is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"system": "DiT-XL"}, "system = 'DiT-XL': there are LlamaGen-L, "),
        ({"system": "NAR-L", "size": {"depth": 3}}, "size.depth: no system has it"),
        ({"system": "NAR-L", "size": {"classes": 11}}, "knows 11 classes where data.num_classes"),
        ({"system": "NAR-L", "weights": "released"}, "go with `weights: random` alone"),
        ({"system": "NAR-L", "ways": {"classes": "sorted"}}, "ways.classes = 'sorted'"),
        ({"system": "NAR-L", "model": {}}, "unknown key `model`"),
    ],
)
def test_systems_that_cannot_be_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset_with({"models": {"other": entry}})


def test_weights_that_were_not_released_are_refused_with_the_way_out() -> None:
    entry = {"system": "PAR-L-4x"}
    with pytest.raises(UserError, match=r"there are none \(no weights.*`weights: random` runs it"):
        preset_with({"models": {"par": entry}}, "table1")
    run = preset_with({"models": {"par": {**entry, "weights": "random"}}}, "table1").systems["par"]
    assert run.config.name == "published"


def test_ways_are_the_systems_own_unless_they_are_said() -> None:
    found = {}
    for way in ("published", "balanced", "drawn"):
        entry = {"system": "NAR-L", "ways": {"classes": way}}
        run = preset_with({"models": {"one": entry}}).systems["one"]
        found[way] = run.ways.of(run.published)
    assert found["published"] == found["drawn"]
    assert (found["balanced"].classes, found["balanced"].rounding) == ("balanced", "cut")
    lpd = preset_with({}, "table1").systems["lpd-l"]
    assert lpd.ways.of(lpd.published).rounding == "nearest"


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"system": "RandAR-L"}, set()),
        ({"system": "RandAR-L", "steps": 5}, {"sample", "metrics"}),
        ({"system": "RandAR-L", "ways": {"classes": "drawn"}}, {"sample", "metrics"}),
        ({"system": "RandAR-L", "ways": {"rounding": "nearest"}}, {"metrics"}),
        ({"system": "RandAR-L", "ways": {"rounding": "cut"}}, set()),
        ({"system": "RandAR-L", "seed": 1}, {"train", "sample", "metrics"}),
        ({"system": "RandAR-L", "size": {"blocks": 2}}, {"train", "sample", "metrics"}),
    ],
)
def test_what_decides_a_result_is_in_its_key(change: dict[str, Any], changed: set[str]) -> None:
    before, after = (
        {task.stage: task.key for task in Pipeline("x", preset_with(c)) if task.model == "randar-l"}
        for c in ({}, {"models": {"randar-l": change}})
    )
    assert {stage for stage in before if before[stage] != after[stage]} == changed
