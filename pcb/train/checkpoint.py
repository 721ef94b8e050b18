"""The state of a training run on disk.

A temporary of its stage: one file, replaced by rename, gone when the stage is complete.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pcb.runtime.atomic import atomic

CHECKPOINT = ".checkpoint.pt"


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint."""
    with atomic(folder / CHECKPOINT) as path:
        torch.save(dict(state), path)


def load_checkpoint(folder: Path, *, mapped: bool = False) -> dict[str, Any] | None:
    """Return the folder's checkpoint on the CPU, or None if training has not got so far.

    `mapped` reads a tensor when it is copied elsewhere, so that ranks of one machine do not fill
    its memory; none may be kept, since the next checkpoint takes the file's place.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    assert isinstance(state, dict)
    return state
