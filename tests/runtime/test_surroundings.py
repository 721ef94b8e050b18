"""A home that cannot be written, streams that are closed, and settings made for other work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pcb.runtime.surroundings import set_variables
from tests.tasks import ROOT


def variables(home: str | None) -> dict[str, str]:
    environment = {"PATH": os.environ["PATH"]} | ({"HOME": home} if home is not None else {})
    set_variables(environment)
    return environment


def test_a_home_that_can_be_written_stays_and_nothing_is_left_here(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    found = variables(str(home))
    assert (found["HOME"], found["MPLBACKEND"]) == (str(home), "agg")
    assert "XDG_CACHE_HOME" not in found
    assert list((folder / "work").iterdir()) == []


@pytest.mark.parametrize("home", [None, "", "/dev/null/home", "file"])
def test_caches_lie_below_the_state_where_there_is_no_home(folder: Path, home: str | None) -> None:
    (folder / "file").write_text("")
    found = variables(str(folder / home) if home == "file" else home)
    assert found["HOME"] == str(folder / ".pcb" / "home" / "home")
    assert Path(found["HOME"]).is_dir()


def test_a_home_that_cannot_be_written_is_kept_for_what_is_read_in_it(folder: Path) -> None:
    """The files of a system are such a folder even to root."""
    found = variables("/proc")
    assert found["HOME"] == "/proc"
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert Path(found[name]).is_relative_to(folder / ".pcb") and Path(found[name]).is_dir()


def test_where_nothing_can_be_written_a_temporary_folder_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir("/proc")
    assert Path(variables(None)["HOME"]).is_relative_to(tmp_path)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/full"])
@pytest.mark.parametrize("command", ["schedule --ratio 2 --blocks 1", "plan --preset mini"])
def test_closed_streams_are_no_traceback(closed: str, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m pcb {command} {closed}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if closed == "> /dev/full":
        assert done.returncode == 1 and done.stderr.startswith("pcb: ")
        assert done.stderr.count("\n") == 1
    else:
        assert done.returncode == 0


def test_snakemake_runs_without_a_home_and_heeds_no_profile_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.yaml").write_text("dry-run: true\nno such: option\n")
    for name in ("Snakefile", "params.yaml", "workflow", "pcb"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    environment |= {"HOME": "/proc", "SNAKEMAKE_PROFILE": str(tmp_path / "own")}
    done = subprocess.run(
        [sys.executable, "-m", "pcb", "workflow", "data_all", "--dry-run", "--quiet", "rules"],
        cwd=tmp_path,
        env={**environment, "PCB_PRESET": "smoke", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"SNAKEMAKE_PROFILE={tmp_path / 'own'} is not heeded here" in done.stderr
    assert "Traceback" not in done.stderr


def test_make_clean_leaves_no_caches_of_python(tmp_path: Path) -> None:
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    code = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/**/__init__.py")}
    packages = [tmp_path / name for name in code if not name.startswith(".")]
    for package in packages:
        (package / "part" / "__pycache__").mkdir(parents=True)
        (package / "part" / "code.py").touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
    assert not list(tmp_path.rglob("__pycache__"))
    assert len(list(tmp_path.rglob("code.py"))) == len(packages) >= 3


@pytest.mark.parametrize("preset", ["a b", "a'b", "$(touch no)", "x;touch no"])
def test_make_hands_a_preset_on_as_one_word(tmp_path: Path, preset: str) -> None:
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    done = subprocess.run(
        [
            "make",
            "--just-print",
            "reproduce",
            f"PRESET={preset.replace(chr(36), chr(36) * 2)}",
            "-o",
            ".venv/.installed",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    line = next(line for line in done.stdout.splitlines() if "pcb workflow" in line)
    shown = line.partition(".venv/bin")[0] + "printenv PCB_PRESET"
    assert subprocess.run(["sh", "-c", shown], capture_output=True, text=True).stdout == (
        f"{preset}\n"
    )
