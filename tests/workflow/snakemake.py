"""Running Snakemake in a copy of the project, and reading which tasks it plans."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tasks import ROOT

PROFILE = ("--workflow-profile", "workflow/profiles/default")
NOTHING = "Nothing to be done"


def copy_project(folder: Path) -> Path:
    """Copy what a clone has, but for results, into an empty folder, which is made."""
    folder.mkdir(exist_ok=True)
    for name in ("Snakefile", "params.yaml", "dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("workflow", "pcb"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def snakemake(project: Path, *arguments: str, preset: str = "smoke") -> str:
    """Run Snakemake as `make reproduce` does, and return what it prints.

    Raises CalledProcessError if it fails.
    """
    command = [sys.executable, "-m", "snakemake", *PROFILE, *arguments]
    environment = {**os.environ, "PCB_PRESET": preset}
    done = subprocess.run(
        command,
        cwd=project,
        env=environment,
        text=True,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout


def planned(project: Path, preset: str = "smoke") -> set[str]:
    """Return the tasks that a dry run would make."""
    out = snakemake(project, "--dry-run", preset=preset)
    tasks = set(re.findall(r"^Job \d+: (\S+)$", out, flags=re.MULTILINE))
    assert bool(tasks) != (NOTHING in out), out
    return tasks


def failure(project: Path, *arguments: str, preset: str = "smoke") -> str:
    """Run Snakemake where it has to fail, and return what it prints."""
    try:
        out = snakemake(project, *arguments, preset=preset)
    except subprocess.CalledProcessError as error:
        return str(error.stdout)
    raise AssertionError(f"did not fail:\n{out}")
