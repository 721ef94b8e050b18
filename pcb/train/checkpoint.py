"""The state of a training run on disk.

A temporary of its stage: one file, replaced by rename, gone when the stage is complete.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.runtime.atomic import atomic
from pcb.runtime.torch_files import read_torch
from pcb.runtime.weights import check_finite

CHECKPOINT = ".checkpoint.pt"
DAMAGED = ".checkpoint.damaged.pt"
"""Where a checkpoint is set aside that cannot be read."""


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint; keep it and raise UserError if a number is not finite."""
    kept = f"{folder / CHECKPOINT}: kept as it is, since training has diverged"
    check_finite(dict(_tensors(state, "")), kept)
    with atomic(folder / CHECKPOINT) as path:
        torch.save(dict(state), path)


def load_checkpoint(folder: Path, *, mapped: bool = False) -> dict[str, Any] | None:
    """Return the folder's checkpoint on the CPU, or None if training has not got so far.

    One that is damaged is set aside, which is said, and counts as none. `mapped` reads a tensor
    when it is copied elsewhere, so that ranks of one machine do not fill its memory; none may be
    kept, since the next checkpoint takes the file's place.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = read_torch(path, mapped=mapped)
    except UserError as error:
        set_aside(folder, str(error))
        return None
    if not isinstance(state, dict):
        set_aside(folder, f"{path}: not a checkpoint of a training")
        return None
    return state


def set_aside(folder: Path, why: str) -> None:
    """Rename a checkpoint that cannot be used, and say so; another rank may have done it."""
    with suppress(FileNotFoundError):
        (folder / CHECKPOINT).replace(folder / DAMAGED)
    print(f"{why}; set aside as {DAMAGED}, and training begins anew", flush=True)


def _tensors(state: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested plain data, by the path that leads to them."""
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{name}.{key}".lstrip("."))
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            yield from _tensors(value, f"{name}[{number}]")
