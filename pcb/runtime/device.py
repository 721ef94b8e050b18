"""Where tensors live, and how exactly a process computes."""

import importlib.util
import os

import torch
from torch import Tensor

from pcb.config import Compute
from pcb.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What the settings called `precision` mean."""


def pick_device(compute: Compute) -> torch.device:
    """Return the device that the settings ask for; `auto` takes a GPU where there is one."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device = 'cuda': torch sees no GPU here; set it to auto or cpu")
    if compute.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def can_compile(device: torch.device) -> bool:
    """Say whether torch can write kernels for a device: on a GPU that triton knows."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; from the CPU to a GPU it travels while this process goes on."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def compute_exactly(device: torch.device, threads: int) -> None:
    """Make a process's results repeatable on the CPU: fixed threads, deterministic kernels.

    On a GPU results repeat up to float rounding; deterministic kernels would cost speed there.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    # Filling fresh memory would find reads of what was never written, at the cost of a pass over
    # every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def forbid_tf32() -> None:
    """Make a GPU multiply float32 as float32: TF32 keeps 10 of the 23 bits of its fractions."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
