"""docs/library.md is a tour whose code runs as it stands, with the library's own packages alone."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recorded import REFERENCE
from tests.tasks import ROOT

TOUR = ROOT / "docs" / "library.md"
WORKFLOW = ("snakemake", "dvc", "submitit")
UNUSED = ("pandas", "matplotlib", "sklearn", "torch_fidelity", "torchvision", "scipy", "jinja2")
"""Base packages that training, metrics or the report need, and the library does not."""


def tour() -> str:
    """Return the code of the page, without its fences."""
    return "\n".join(re.findall(r"```python\n(.*?)```", TOUR.read_text(encoding="utf-8"), re.S))


def test_the_tour_runs_as_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    example = doctest.DocTestParser().get_doctest(tour(), {}, "tour", str(TOUR), 0)
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    runner.run(example, out=report.append)
    found = runner.summarize(verbose=False)
    assert found.attempted > 30
    assert found.failed == 0, "".join(report)


def test_the_tour_needs_none_of_the_packages_around_it(tmp_path: Path) -> None:
    """Nor a certain working directory; and it writes nothing there."""
    page = tour().replace("tests/reference", str(REFERENCE))
    code = "\n".join(
        (
            "import doctest, sys",
            f"for name in {WORKFLOW + UNUSED}: sys.modules[name] = None",
            f"parser, page = doctest.DocTestParser(), {page!r}",
            "runner = doctest.DocTestRunner()",
            "runner.run(parser.get_doctest(page, {}, 'tour', None, 0))",
            "sys.exit(runner.failures > 0)",
        )
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    code = "import pcb, sys; print('torch' in sys.modules, 'numpy' in sys.modules, dir(pcb))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False False")
    assert "'load'" in done.stdout
