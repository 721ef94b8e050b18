"""The script for a GPU: every section at toy size on a CPU, and what it makes of its findings."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import SECTIONS, Section, Sheet, build_parser
from benchmarks.measure import Results
from pcb.cli.main import run
from tests.tasks import ROOT

CPU = torch.device("cpu")
TIMED = {
    "train-s": ["training/mini/b4"],
    "train-l": ["training/mini/b4"],
    "sampling": [f"sampling/mini/{size}" for size in ("b1-guided", "b2-guided", "b2-guided")],
    "systems": ["systems/VAR-d16/b2-decoded", "systems/LPD-L/b2-decoded"],
}


@pytest.fixture
def sheet(tmp_path):
    return Sheet(path=tmp_path / "section.json", device=CPU, tiny=True)


@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "ranks"])
def test_a_section_finds_what_it_is_for(name, sheet):
    SECTIONS[name].run(sheet)
    written = json.loads(sheet.path.read_text())
    assert len(written["facts"]) == len(sheet.facts)
    names = [part.name for part in sheet.results.parts] if sheet.results else []
    for beginning in TIMED.get(name, []):
        assert any(part.startswith(beginning) for part in names)
    if sheet.results:
        assert not [part.failure for part in sheet.results.parts if part.failure]
    if name == "graphs":
        found = dict(sheet.facts)
        assert found["mini float32 guided"]["steps"] == 13
        for against in ("replayed", "single calls", "fewer", "grown"):
            # On a CPU in float32 nothing may depend on the batch.
            assert found[f"mini float32 guided, {against}"] == {"logits": 0, "codes": 0}
    if name == "systems":
        assert {part.facts["model calls"] for part in sheet.results.parts} >= {3, 11, 12, 36}


def test_ranks_average_their_gradients(tmp_path):
    """In a process of its own: a group of ranks is one to a process."""
    words = ["benchmarks.gpu", "ranks", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "facts.json").read_text())["ranks"]
    ((what, numbers),) = found["facts"]
    assert what == "two micro-batches, recomputed" and numbers["vote"] == 2


def test_all_sections_fit_in_nine_minutes():
    assert gpu._WHOLE_SECONDS < 9 * 60
    assert all(section.seconds < gpu._WHOLE_SECONDS for section in SECTIONS.values())


def test_sections_that_fail_or_take_too_long_lose_only_themselves(tmp_path, monkeypatch, capsys):
    """What a section wrote before its end is in the table all the same."""
    commands = []

    def finished(command, timeout):
        name, file = command[3], command[5]
        commands.append(name)
        part = {
            "name": f"a/{name}",
            "item": "calls",
            "precision": "float32",
            "seconds": {"fast": [1]},
        }
        machine = {"kind": "cuda", "name": "H", "cores": 1, "threads": 1}
        machine |= {"versions": {"pcb": "1", "python": "3", "torch": "2"}}
        machine |= {"rates": {"matrix float32": 1.0, "convolution float32": 1.0, "copy": 1.0}}
        text = {"facts": [["it", {"is": 1.5}]], "results": {"machine": machine, "parts": [part]}}
        (tmp_path / f"section-{name}.json").write_text(json.dumps(text))
        assert file == str(tmp_path / f"section-{name}.json")
        if name == "late":
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, int(name == "wrong"))

    monkeypatch.setattr(gpu, "SECTIONS", {n: Section(9, print) for n in ("good", "wrong", "late")})
    monkeypatch.setattr(subprocess, "run", finished)
    words = ["--tiny", "--out", str(tmp_path)]
    assert run(build_parser(), words) == 1
    assert commands == ["good", "wrong", "late"]
    states = {k: v["state"] for k, v in json.loads((tmp_path / "facts.json").read_text()).items()}
    assert states["good"].startswith("done") and states["wrong"].startswith("failed (1)")
    assert states["late"].startswith("stopped after 9 s")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [part["name"] for part in results["parts"]] == ["a/good", "a/wrong", "a/late"]
    assert Results and "is 1.5" in capsys.readouterr().out
    assert run(build_parser(), [*words, "--seconds", "5"]) == 1
    assert "not run: no time left" in capsys.readouterr().out


def test_an_unknown_section_is_refused_with_those_that_there_are(capsys):
    assert run(build_parser(), ["nonsense"]) == 1
    assert "nonsense: no such section; there are environment, graphs" in capsys.readouterr().err
