"""A stage is a row of the table, a file, a rule and a verb; whatever else lists stages agrees."""

import argparse
import re
from typing import Any, get_args

import pytest
import yaml

from pcb.cli.main import build_parser
from pcb.config.cluster import CHUNKED, StageName
from pcb.pipeline.job import stage_function
from pcb.pipeline.stages import STAGES
from pcb.pipeline.tasks import Pipeline
from pcb.preflight.cost import COSTS
from tests.tasks import ROOT, pipeline_of


def verbs() -> dict[str, argparse.ArgumentParser]:
    (found,) = (
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(found)


def phases() -> dict[str, Any]:
    """Return the stages of dvc.yaml, but for the one that writes the resolved settings."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    del found["settings"]
    return found


def test_stage_is_file_is_rule_is_verb() -> None:
    files = {path.stem for path in (ROOT / "pcb" / "stages").glob("*.py")} - {"__init__"}
    rules = {path.stem for path in (ROOT / "workflow" / "rules").glob("*.smk")} - {"common"}
    assert set(STAGES) == files == rules
    assert list(verbs())[: len(STAGES)] == list(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_each_rule_calls_its_own_verb(stage: str) -> None:
    rule = (ROOT / "workflow" / "rules" / f"{stage}.smk").read_text()
    assert rule.startswith(f"rule {stage}:\n")
    assert re.findall(r"python -m pcb (\w+)", rule) == [stage]


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_each_file_has_the_functions_that_the_table_says(stage: Any) -> None:
    module = f"pcb.stages.{stage.name}"
    assert stage_function(stage.name, "run").__module__ == module
    assert hasattr(__import__(module, fromlist=["run"]), "run_partial") == stage.partial


def test_settings_of_a_cluster_know_the_stages() -> None:
    assert get_args(StageName) == tuple(STAGES)
    many = {stage.name for stage in STAGES.values() if stage.one_per == "sampling config"}
    assert set(CHUNKED) == many


def test_costs_are_of_stages() -> None:
    assert set(COSTS) <= set(STAGES)


def test_dvc_versions_each_stage_where_its_result_stands() -> None:
    assert list(phases()) == list(STAGES)
    for name, phase in phases().items():
        outs = {path: how for out in phase["outs"] for path, how in out.items()}
        in_git = STAGES[name].in_git
        data = "reports/${preset}" if in_git else f"results/artifacts/${{preset}}/{name}"
        assert (outs.pop(data).get("cache", True)) is not in_git
        assert outs == {f"results/manifests/${{preset}}/{name}": {"cache": False, "persist": True}}


@pytest.mark.parametrize("preset", ["mini", "paper", "paper-pretrained"])
def test_tasks_are_named_by_what_there_is_one_of(preset: str) -> None:
    pipeline: Pipeline = pipeline_of(preset)
    order = list(STAGES)
    for task in pipeline:
        parts = {"preset": 0, "model": 1, "sampling config": 2}[STAGES[task.stage].one_per]
        assert (task.model is not None) + (task.sampling_config is not None) == parts
        assert task.variant.count("/") == max(0, parts - 1)
        assert (task.variant == "all") == (parts == 0)
        assert all(order.index(read.task.stage) < order.index(task.stage) for read in task.inputs)


def test_jobs_are_seen_by_stages_alone() -> None:
    """What a stage's entry calls gets the settings and paths that it uses, never the job."""
    seers = {
        path.relative_to(ROOT / "pcb").parts[0]
        for path in (ROOT / "pcb").rglob("*.py")
        if re.search(r"\bimport\b(.*|[^()]*\([^)]*)\bJob\b", path.read_text(encoding="utf-8"))
    }
    assert seers == {"pipeline", "stages"}
