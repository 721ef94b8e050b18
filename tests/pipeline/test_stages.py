"""A stage is a row of the table, a file, a rule and a verb; whatever else lists stages agrees."""

import argparse
import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pcb.cli.main import build_parser
from pcb.config import stages as table
from pcb.config.cluster import Cluster
from pcb.config.convert import convert
from pcb.config.loader import load_params, parse_preset
from pcb.config.stages import STAGES
from pcb.errors import UserError
from pcb.pipeline.job import stage_function
from pcb.pipeline.tasks import Pipeline
from pcb.preflight.cost import COSTS
from tests.tasks import ROOT
from tests.test_layers import MODULES, imports_of, package_of

PARAMS = load_params(ROOT / "params.yaml")
IMAGES = "paper, trained on images"
"""What no preset asks for and dvc.yaml serves too."""
PARAMS["presets"][IMAGES] = {"extends": "paper", "tokens": {"source": "images"}}


def verbs() -> dict[str, argparse.ArgumentParser]:
    (found,) = (
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(found)


def dvc_stages() -> dict[str, Any]:
    """Return the stages of dvc.yaml."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return found


def phases() -> dict[str, Any]:
    """Return those that make results: all but the one that writes the resolved settings."""
    return {name: stage for name, stage in dvc_stages().items() if name != "settings"}


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


def pipelines() -> Iterator[Pipeline]:
    """Yield the tasks of every preset."""
    return (Pipeline(name, parse_preset(PARAMS, name)) for name in PARAMS["presets"])


def test_settings_of_a_cluster_know_the_stages() -> None:
    known = convert({"stages": {stage: {"gpus": 1} for stage in STAGES}}, Cluster, "cluster")
    assert set(known.stages) == set(STAGES)
    with pytest.raises(UserError, match=f"known: {', '.join(sorted(STAGES))}$"):
        convert({"stages": {"other": {}}}, Cluster, "cluster")


def test_costs_are_of_stages() -> None:
    assert set(COSTS) <= set(STAGES)


def test_the_changelog_names_every_version_that_was_raised() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    raised = [f"{stage.name} {stage.version}" for stage in STAGES.values() if stage.version > 1]
    assert not [version for version in raised if version not in text]


def test_dvc_versions_each_stage_where_its_result_stands() -> None:
    assert list(phases()) == list(STAGES)
    for name, phase in phases().items():
        outs = {path: how for out in phase["outs"] for path, how in out.items()}
        in_git = STAGES[name].in_git
        data = "reports/${preset}" if in_git else f"results/artifacts/${{preset}}/{name}"
        assert (outs.pop(data).get("cache", True)) is not in_git
        assert outs == {f"results/manifests/${{preset}}/{name}": {"cache": False, "persist": True}}


def test_dvc_compares_what_the_tasks_of_each_stage_read() -> None:
    read: dict[str, set[str]] = {}
    for task in (task for pipeline in pipelines() for task in pipeline):
        read.setdefault(task.stage, set()).update(source.task.stage for source in task.inputs)
    assert set(read) == set(STAGES), "a stage without a task in any preset"
    for name, phase in phases().items():
        stages = [stage for stage in STAGES if stage in read[name]]
        manifests = [f"results/manifests/${{preset}}/{stage}" for stage in stages]
        assert phase.get("deps", []) == manifests, name
        settings = [name, f"versions.{name}"]
        assert phase["params"] == [{"results/settings/${preset}.json": settings}]


def test_dvc_resolves_settings_again_when_code_that_decides_them_changes() -> None:
    deps = dvc_stages()["settings"]["deps"]
    decide, found = {"pcb.pipeline.tasks"}, set()
    while decide:
        found |= decide
        decide = {
            name for module in decide for name in imports_of(MODULES[module].read_text())
        } - found
    # How a task is named and hashed decides no setting.
    packages = {package_of(name) for name in found} - {"errors", "runtime", "pipeline"}
    expected = ["params.yaml", "pcb/pipeline/tasks.py", *(f"pcb/{name}" for name in packages)]
    assert sorted(deps) == sorted(expected)
    assert package_of(table.__name__) in packages


@pytest.mark.parametrize("preset", PARAMS["presets"])
def test_tasks_are_named_by_what_there_is_one_of(preset: str) -> None:
    pipeline = Pipeline(preset, parse_preset(PARAMS, preset))
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


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_is_the_entrys_alone(stage: str) -> None:
    tree = ast.parse((ROOT / "pcb" / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    takers = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(part, ast.Name) and part.id == "Job" for part in ast.walk(node.args))
    }
    assert takers == {"run"}
