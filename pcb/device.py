"""Where tensors live, and how exactly a process computes."""

import os

import torch

from pcb.errors import UserError
from pcb.settings import Compute


def pick_device(compute: Compute) -> torch.device:
    """Return the device that the settings ask for; `auto` takes a GPU where there is one."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device = 'cuda': torch sees no GPU here; set it to auto or cpu")
    if compute.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


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
