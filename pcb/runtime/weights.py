"""Weights as safetensors: written whole, and checked tensor by tensor before they are used."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.runtime.atomic import atomic

_SHOWN = 3


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors, which whoever may read the folder may read."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary)
        # The library leaves files that their owner alone can read.
        temporary.chmod(0o666 & temporary.parent.stat().st_mode)


def check_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError unless the state has exactly the module's names and shapes."""
    check_tensors(module.state_dict(), state, source)


def check_tensors(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError unless the state has exactly the expected names and shapes."""
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": sorted(state.keys() - expected.keys()),
        "of another shape": [
            f"{name} {list(state[name].shape)} for {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    parts = []
    for fault, names in faults.items():
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{len(names)} {fault}: {', '.join(names[:_SHOWN])}{more}")
    if parts:
        raise UserError(f"{source}: tensors do not fit the settings; {'; '.join(parts)}")
