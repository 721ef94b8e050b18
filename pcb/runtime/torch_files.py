"""PyTorch's files, of others and of our own: opened and checked in one place.

Nothing but tensors and plain values is ever unpickled. What is wrong with a file is one line.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.runtime.file_kind import standin, zip_damage

_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int32DType,
    np.dtypes.Int64DType,
    np.dtypes.BoolDType,
    # Under both names that NumPy has given it.
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
"""What others' checkpoints hold beside tensors and does nothing when it is loaded."""


def read_torch(
    path: Path, refusal: str = "not a readable checkpoint", *, mapped: bool = False
) -> Any:
    """Return what a file of `torch.save` holds, on the CPU.

    `mapped` reads a tensor when it is used. Raises UserError that begins `PATH: refusal`: for a
    file that is missing, something else, cut short or damaged, or that holds objects which could
    run code.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: {refusal} (not a file)")
    try:
        reason = standin(path) or zip_damage(path)
        if reason is None:
            with torch.serialization.safe_globals(_PLAIN):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds for truncated or foreign files
        reason = _reason(error)
    raise UserError(f"{path}: {refusal} ({reason})")


def _reason(error: Exception) -> str:
    """Say why torch does not load a file, without its advice to run what the file holds."""
    text = str(error).strip()
    named = re.search(r"(?:GLOBAL|global|class) ([\w.]+\.[\w.]+)", text)
    if named:
        return f"it holds {named[1]}, which is no tensor and could run code"
    if "weights_only" in text or not text:
        return "damaged, or of another format"
    return text.splitlines()[0]


def tensors_of(tensors: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    """Return a mapping of names to tensors as what it is meant to be: dense ones, by name.

    Raises UserError naming what is none.
    """
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise UserError(f"{source}: {name!r} is a {kind} where a tensor belongs")
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise UserError(
                f"{source}: {name} is a tensor of another kind ({value.dtype}, {value.layout})"
            )
    return dict(tensors)


def in_float32(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return tensors, floating ones as float32; print how many were of another precision."""
    other = {
        name: x for name, x in tensors.items() if x.is_floating_point() and x.dtype != torch.float32
    }
    if other:
        kinds = " and ".join(sorted({str(x.dtype).removeprefix("torch.") for x in other.values()}))
        print(f"{source}: {len(other)} tensors are {kinds}; converted to float32", flush=True)
    return {name: x.float() if name in other else x for name, x in tensors.items()}
