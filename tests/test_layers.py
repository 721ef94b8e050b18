"""The code's own rules: imports go downwards, the lowest layer is light, pieces stay small."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.units import ROOT

# Lowest first; a module is in the first layer that has a pattern for it.
LAYERS = (
    (
        "no torch",
        "pcb.data.pool pcb.data.tree pcb.data.truth"
        " pcb pcb.errors pcb.settings pcb.settings.base pcb.settings.images pcb.settings.model"
        " pcb.settings.cluster pcb.settings.files pcb.settings.tokenizer"
        " pcb.settings.speed pcb.settings.sweep pcb.settings.scores pcb.settings.preset"
        " pcb.params pcb.consistency pcb.schedule"
        " pcb.order pcb.pipeline pcb.atomic pcb.manifest pcb.verify pcb.settle pcb.progress"
        " pcb.certificate pcb.stage pcb.stages"
        " pcb.plan pcb.doctor pcb.effective pcb.audit pcb.trace pcb.store"
        " pcb.marked pcb.meeting pcb.folder pcb.interrupt pcb.lock pcb.flops pcb.size"
        " pcb.rates pcb.cost pcb.forecast pcb.catalogue pcb.files"
        " pcb.download pcb.fetch",
    ),
    (
        "tensors and numbers, no files",
        "pcb.model pcb.model.cache pcb.model.layers pcb.model.rotary pcb.model.sequence"
        " pcb.model.mask pcb.device pcb.ahead pcb.train.loss"
        " pcb.model.transformer pcb.tokenizer pcb.tokenizer.autoencoder pcb.tokenizer.quantize"
        " pcb.tokenizer.pyramid pcb.tokenizer.ssim pcb.tokenizer.vq pcb.sample pcb.sample.draw"
        " pcb.sample.guidance pcb.sample.philox"
        " pcb.metrics pcb.metrics.statistics pcb.metrics.frechet pcb.metrics.inception_score"
        " pcb.metrics.precision_recall pcb.metrics.kid"
        " pcb.train pcb.train.optim pcb.data pcb.data.crops pcb.tokens pcb.report",
    ),
    ("one kind of file or one algorithm", "pcb.*"),
    (
        "entries, one a stage",
        "pcb.data.prepare pcb.tokenizer.build pcb.metrics.classifier_build pcb.metrics.reference"
        " pcb.metrics.evaluate pcb.metrics.golden"
        " pcb.tokens.build"
        " pcb.train.run pcb.train.released pcb.train.from_folder pcb.sample.run pcb.metrics.run"
        " pcb.report.build pcb.parity",
    ),
    ("measuring", "pcb.bench pcb.bench.*"),
    ("jobs", "pcb.launch pcb.launch.*"),
    ("command line", "pcb.cli pcb.cli.* pcb.__main__"),
)
FILE_LINES = 300
FUNCTION_LINES = 60
# The exception that the style allows: a training loop reads best from top to bottom.
LONG_FUNCTIONS = {"pcb.train.loop:train": 120}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "pcb").rglob("*.py"))
}


def layer_of(module: str) -> int:
    """Return a module's layer; a name that is spelt out wins over a pattern."""
    exact = [level for level, (_, names) in enumerate(LAYERS) if module in names.split()]
    matching = [
        level
        for level, (_, names) in enumerate(LAYERS)
        if any(fnmatch(module, name) for name in names.split())
    ]
    return exact[0] if exact else matching[-1]


def imports_of(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name for name in inside if name in MODULES] or [node.module]
        else:
            continue
        yield from (name for name in names if name in MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    wrong = [name for name in imports_of(MODULES[module]) if layer_of(name) > layer_of(module)]
    assert not wrong, f"{module} ({LAYERS[layer_of(module)][0]}) imports {wrong}"


def test_every_module_that_a_layer_names_exists() -> None:
    names = {name for _, names in LAYERS for name in names.split() if "*" not in name}
    assert names <= set(MODULES)


def test_lowest_layer_loads_neither_torch_nor_what_comes_with_it() -> None:
    low = [module for module in MODULES if layer_of(module) == 0]
    code = "import sys\n" + "".join(f"import {module}\n" for module in low)
    code += "print(*{'torch', 'torchvision', 'sklearn', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_reading_the_snakefile_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from pcb.plan import Plan; Plan();"
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
