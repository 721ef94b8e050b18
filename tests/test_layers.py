"""The code's own rules: imports go downwards, the lowest layer is light, pieces stay small."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks import ROOT

# Lowest first. A package imports what stands on earlier lines, and itself.
ORDER = (
    "errors order published",
    "config",
    "runtime",
    "data pipeline",
    "tokenizer launch",
    "model",
    "metrics report",
    "train sample",
    "systems",
    "external",
    "stages preflight",
    "generate",
    "cli",
    "benchmarks",
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names.split()}
UPWARDS = {("pcb.pipeline.job", "stages")}
"""A stage's file alone is found from below, by name: to a process that a launcher starts, a stage
is a name."""
LIGHT = ("published", "config", "pipeline", "preflight", "cli")
"""Packages that load neither torch nor what comes with it; the Snakefile and `pcb --help` wait."""
FILE_LINES = 300
FUNCTION_LINES = 60
# The exception that the style allows: a training loop reads best from top to bottom.
LONG_FUNCTIONS = {"pcb.train.loop:train": 120}


def modules_of(folder: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


MODULES = modules_of("pcb")
ALL = {**MODULES, **modules_of("benchmarks")}


def imports_of(text: str) -> Iterator[str]:
    """Yield the modules of this project that a text imports anywhere.

    Relative imports are none of its: ruff forbids them (TID252).
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name for name in inside if name in ALL] or [node.module]
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            # Of an f-string the words before its first value.
            first = getattr(node.args[0], "values", [node.args[0]])[0]
            names = [str(getattr(first, "value", "")).rstrip(".")]
        else:
            continue
        yield from (name for name in names if name in ALL)


def called(node: ast.Call) -> str:
    return str(getattr(node.func, "id", getattr(node.func, "attr", "")))


def package_of(module: str) -> str:
    top, own, *_ = (*module.split("."), "")
    return own if top == "pcb" else top


def above(module: str, text: str) -> set[str]:
    """Return the packages that a module's text imports although they do not stand below it."""
    own = package_of(module)
    others = {package_of(name) for name in imports_of(text)} - {own, ""}
    return {name for name in others if LEVEL[name] >= LEVEL[own] and (module, name) not in UPWARDS}


@pytest.mark.parametrize("module", [name for name in ALL if package_of(name) in LEVEL])
def test_imports_go_downwards(module: str) -> None:
    assert not above(module, ALL[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "import pcb.stages.train",
        "from pcb.stages import train",
        "from pcb.stages.train import run",
        "import_module('pcb.stages.train')",
        "importlib.import_module(f'pcb.stages.{name}')",
        "def f(): import benchmarks.stages, pcb.stages",
    ],
)
def test_an_import_that_goes_upwards_is_seen(line: str) -> None:
    assert "stages" in above("pcb.pipeline.run", line)


def test_every_package_has_its_place() -> None:
    assert {package_of(name) for name in ALL} - {"", "__main__"} == set(LEVEL)


def test_light_packages_load_no_torch() -> None:
    low = [module for module in MODULES if package_of(module) in LIGHT]
    code = "import sys\n" + "".join(f"import {module}\n" for module in low)
    code += "print(*{'torch', 'torchvision', 'sklearn', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_reading_the_snakefile_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from pcb.pipeline.workflow import load_plan; load_plan();"
        "print(*{'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_small(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= LONG_FUNCTIONS.get(f"{module}:{node.name}", FUNCTION_LINES), node.name


def test_rules_are_one_call_each() -> None:
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text(encoding="utf-8")
        calls = re.findall(r"python -m pcb \w+", text)
        assert len(calls) == text.count("shell:")
        assert "run:" not in text
        assert "script:" not in text
