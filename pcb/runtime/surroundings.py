"""Preparation of a process: streams, home, cache folders, environment variables.

A home that is absent or cannot be written breaks Snakemake, Matplotlib, DVC and torch, each in its
own way; their caches then lie below `.pcb`, or in a temporary folder where that cannot be written
either. Settings that a user made for other work change nothing here. No torch.
"""

import getpass
import os
import sys
import tempfile
from collections.abc import MutableMapping
from functools import cache
from pathlib import Path

from pcb.config.paths import STATE

_CACHES = {
    "XDG_CACHE_HOME": "cache",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "DVC_GLOBAL_CONFIG_DIR": "dvc-config",
}
"""Variable -> folder below ours, where the home cannot be written."""


def prepare_surroundings() -> None:
    """Make this process, and those that it starts, independent of what may be amiss around it."""
    open_streams()
    set_variables(os.environ)


def open_streams() -> None:
    """Open standard streams that were closed, as ``>&-`` does: what is printed goes nowhere.

    Otherwise the next file that is opened would become the standard output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)
            if found != number:
                os.dup2(found, number)
                os.close(found)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def set_variables(environment: MutableMapping[str, str]) -> None:
    """Set what caches and other programs' settings are read from."""
    # No window is ever opened, and a notebook's backend is not installed everywhere.
    environment["MPLBACKEND"] = "agg"
    home = environment.get("HOME", "")
    if not (home and Path(home).is_dir()):
        environment["HOME"] = str(_made(own_folder() / "home"))
    caches = environment.get("XDG_CACHE_HOME") or f"{environment['HOME']}/.cache"
    if not _is_writable(Path(caches)):
        for variable, name in _CACHES.items():
            environment[variable] = str(_made(own_folder() / name))
    try:
        getpass.getuser()
    except (KeyError, OSError):
        # A container's user without a name, which several libraries ask for.
        environment["USER"] = environment["LOGNAME"] = "pcb"


def own_folder() -> Path:
    """Return a folder for caches, made if need be: in this checkout, else a temporary one."""
    return _folder_beside(STATE.absolute())


@cache
def _folder_beside(state: Path) -> Path:
    """Return a folder inside one of a checkout's state, or one that is ours alone elsewhere."""
    shared = Path(tempfile.gettempdir()) / f"pcb-{os.getuid()}"
    if _is_writable(state / "home"):
        return state / "home"
    if _is_writable(shared) and shared.stat().st_uid == os.getuid():
        return shared
    return Path(tempfile.mkdtemp(prefix="pcb-"))


def _is_writable(folder: Path) -> bool:
    """Say whether files can be made in a folder, which comes to be if that is possible."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
