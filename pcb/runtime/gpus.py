"""GPUs that this process was meant to have, as far as that shows without loading torch."""

from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Numbers or names of the GPUs that a process sees, all if it is not set; set to nothing, none."""
DRIVER = Path("/proc/driver/nvidia/version")
"""There where the NVIDIA driver is loaded."""
DEVICES = Path("/dev")
"""Holds nvidia0, nvidia1, ... of the GPUs of this machine, or of this container."""
_HIDDEN = ("", "-1")


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that a process with these variables sees, as the variable names them."""
    chosen = environment.get(VISIBLE)
    if chosen is not None:
        return [] if chosen in _HIDDEN else chosen.split(",")
    there = [path for path in DEVICES.glob("nvidia*") if path.name[len("nvidia") :].isdecimal()]
    return [str(number) for number in range(len(there))]


def sign_of_gpu(environment: Mapping[str, str]) -> str | None:
    """Return what says that a process was meant to have a GPU, None if nothing does."""
    chosen = environment.get(VISIBLE)
    if chosen is not None:
        return None if chosen in _HIDDEN else f"{VISIBLE} = {chosen}"
    # Numbers of GPUs, and how many they are.
    for name, none in (("SLURM_JOB_GPUS", ""), ("SLURM_GPUS_ON_NODE", "0")):
        if environment.get(name, none) not in ("", none):
            return f"{name} = {environment[name]}"
    return f"an NVIDIA driver is loaded ({DRIVER})" if DRIVER.exists() else None
