"""The device of tensors, and the numerical precision of a process."""

import importlib.util
import os
from collections.abc import Callable

import torch
from torch import Tensor

from pcb.config import Compute
from pcb.errors import UserError
from pcb.runtime.gpus import sign_of_gpu

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What the settings called `precision` mean."""


def pick_device(compute: Compute) -> torch.device:
    """Return the device that the settings ask for, set up; `auto` takes a GPU where there is one.

    Each local rank has a GPU of its own among those that it sees; that is the current one then, on
    which streams and graphs are made. Raises UserError where a GPU was asked for, by the settings
    or by what started this process, and torch cannot use it.
    """
    set_tf32(False)
    if compute.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        asked = "compute.device = 'cuda'" if compute.device == "cuda" else sign_of_gpu(os.environ)
        if asked is None:
            return torch.device("cpu")
        raise UserError(
            f"{asked}, but torch {torch.__version__} cannot use a GPU ({_why_no_gpu()}); "
            f"install a build of torch that fits the driver, or set compute.device to cpu"
        )
    # A cluster may show each rank its own GPU alone.
    index = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    # cuDNN's attention makes a plan for every new shape, of which sampling has one per step.
    torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def _why_no_gpu() -> str:
    """Return torch's own words for why there is no GPU."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0].rstrip(".")
    return "it sees none"


def can_compile(device: torch.device) -> bool:
    """Say whether torch can write kernels for a device: on a GPU that triton knows."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; the copy from the CPU to a GPU does not block."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def receive(tensor: Tensor) -> Callable[[], Tensor]:
    """Start a tensor's way to the CPU; the function that is returned waits for that alone.

    A copy that is asked for when it is needed would stand behind all that the GPU was given since.
    """
    if not tensor.is_cuda:
        return lambda: tensor
    here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    here.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return here

    return wait


def compute_exactly(device: torch.device, threads: int, *, tf32: bool = False) -> None:
    """Make a process's results repeatable on the CPU: fixed threads, deterministic kernels.

    On a GPU results repeat up to float rounding; deterministic kernels would cost speed there.
    `tf32` is `set_tf32`'s.
    """
    torch.set_num_threads(threads)
    # The same as `use_deterministic_algorithms`, which loads inductor first: seconds per process.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
    # Filling fresh memory would find reads of what was never written, at the cost of a pass over
    # every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    set_tf32(tf32)


def set_tf32(convolutions: bool) -> None:
    """Say whether a GPU's float32 convolutions may use TF32, which keeps 10 of 23 fraction bits.

    Matrix products never do. PyTorch's own default allows it in convolutions.
    """
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = False
