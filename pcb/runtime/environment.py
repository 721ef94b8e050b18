"""The environment of a process: the code's version, the packages, the machine. No torch."""

import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pcb

DISTRIBUTION = "pcb-reproduction"
FEATURE_PACKAGES = ("torch", "torch-fidelity")
"""Those of `PACKAGES` whose version may move what an extractor sees."""
PACKAGES = (
    *FEATURE_PACKAGES,
    "torchvision",
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",
    "pillow",
    "matplotlib",
)
"""Distributions whose version may move a number: provenance names them."""


@cache
def code_version(package: Path) -> tuple[str | None, bool | None]:
    """Return the git commit of a package's code and whether it was modified since.

    Both are None where the folder is not under git, as an installed package is not. Asked once: a
    process runs the code that it started with.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    status = _git(package, "status", "--porcelain", "--", ".")
    return _git(package, "rev-parse", "HEAD"), status != ""


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of pcb, Python and of those `PACKAGES` that are installed."""
    found = {"pcb": pcb.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def required_packages() -> list[str]:
    """Return the distributions that pyproject.toml asks for, those of the workflow among them.

    Raises PackageNotFoundError where this package is not installed.
    """
    found = []
    for requirement in requires(DISTRIBUTION) or ():
        text, _, extra = requirement.partition("; extra == ")
        name = re.match(r"[\w.-]+", text)
        if name is not None and extra in ("", '"workflow"'):
            found.append(name[0])
    return found


def machine() -> dict[str, str]:
    """Return the machine's platform, processor and number of cores, and what torch computed on.

    `device` is `cpu`, or `cuda` with the name of the `gpu` and where `tf32` was allowed.
    """
    found = {
        "platform": platform.platform(),
        "cpu": processor_name(),
        "cores": str(os.cpu_count()),
    }
    # Whoever used a GPU has imported torch; importing it here would cost everyone seconds.
    torch = sys.modules.get("torch")
    if torch is None:
        return found
    if not torch.cuda.is_initialized():
        return {**found, "device": "cpu"}
    tf32 = {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "products": torch.backends.cuda.matmul.allow_tf32,
    }
    return {
        **found,
        "device": "cuda",
        "gpu": torch.cuda.get_device_name(),
        "tf32": " and ".join(name for name, allowed in tf32.items() if allowed) or "nowhere",
    }


def processor_name() -> str:
    """Return the processor's model, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, None if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
