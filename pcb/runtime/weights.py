"""Weights as safetensors: written whole, and checked tensor by tensor before they are used."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.runtime.atomic import atomic

_SHOWN = 3


def save_weights(path: Path, state: Mapping[str, Tensor], *, masks: Collection[str] = ()) -> None:
    """Write weights as safetensors, which whoever may read the folder may read.

    `masks` names tensors that may be infinite. Raises UserError for weights that are not finite.
    """
    check_finite({name: x for name, x in state.items() if name not in masks}, str(path))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary)
        # The library leaves files that their owner alone can read.
        temporary.chmod(0o666 & temporary.parent.stat().st_mode)


def check_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError unless the state has exactly the module's names and shapes, finite."""
    check_tensors(module.state_dict(), state, source)


def check_tensors(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    *,
    masks: Collection[str] = (),
) -> None:
    """Raise UserError unless the state has exactly the expected names, shapes and kinds, finite.

    `masks` names tensors that are infinite where nothing may be seen.
    """
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": sorted(state.keys() - expected.keys()),
        "of another shape": [
            f"{name} {list(state[name].shape)} for {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
        "of another kind": [
            f"{name} {_kind(state[name])} for {_kind(tensor)}"
            for name, tensor in expected.items()
            if name in state and state[name].is_floating_point() != tensor.is_floating_point()
        ],
    }
    parts = []
    for fault, names in faults.items():
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{len(names)} {fault}: {', '.join(names[:_SHOWN])}{more}")
    if parts:
        raise UserError(f"{source}: tensors do not fit the settings; {'; '.join(parts)}")
    check_finite({name: x for name, x in state.items() if name not in masks}, source)


def check_finite(arrays: Mapping[str, Tensor | NDArray[Any]], source: str) -> None:
    """Raise UserError naming the source and the arrays that hold NaN or infinity.

    Every number that is loaded, and every number that is sealed, passes here.
    """
    found = [name for name, array in arrays.items() if not _is_finite(array)]
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UserError(
            f"{source}: not finite (NaN or infinity) in {', '.join(found[:_SHOWN])}{more}; "
            "such numbers give nothing but noise, so they are not used"
        )


def _is_finite(array: Tensor | NDArray[Any]) -> bool:
    """Say whether all of an array is finite; a tensor without values (`meta`) is."""
    if isinstance(array, Tensor):
        return array.is_meta or not array.is_floating_point() or bool(array.isfinite().all())
    return not np.issubdtype(array.dtype, np.floating) or bool(np.isfinite(array).all())


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
