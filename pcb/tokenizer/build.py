"""The stage `tokenizer`: trains the miniature's tokenizer and measures it on held-out images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.data.arrays import from_uint8, save_array, to_uint8
from pcb.data.images import first_images, open_images
from pcb.device import compute_exactly, pick_device
from pcb.model.weights import save_weights
from pcb.stage import Job
from pcb.tokenizer.codebook import perplexity
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.pyramid import image_pyramid
from pcb.tokenizer.train import TokenizerTrainer, initialise
from pcb.tokenizer.vq import Tokenizer
from pcb.train.run import write_log

LOG = "log.csv"
RECONSTRUCTIONS = "reconstructions.npy"
_SHOWN = 16
_MEASURED = 1000


def build(job: Job) -> dict[str, Any]:
    """Train to the end and write weights, log and reconstructions."""
    settings = job.preset.tokenizer
    assert settings.training is not None
    device = pick_device(job.preset.compute)
    compute_exactly(device, job.preset.compute.threads)
    # The initial weights come from the CPU's generator on any device.
    torch.manual_seed(settings.training.seed)
    tokenizer = Tokenizer(settings.autoencoder)
    initialise(tokenizer)
    trainer = TokenizerTrainer(
        tokenizer=tokenizer.to(device),
        images=open_images(job.inputs["data"], job.preset, "train"),
        settings=settings.training,
        folder=job.folder,
    )
    with job.progress("iterations", settings.training.iterations) as progress:
        trainer.run(progress, job.preset.compute.checkpoint_seconds)
    tokenizer.eval().requires_grad_(False)
    held_out = first_images(open_images(job.inputs["data"], job.preset, "held_out"), _MEASURED)
    save_weights(job.folder / TOKENIZER_FILE, tokenizer.state_dict())
    save_array(job.folder / RECONSTRUCTIONS, reconstructions(tokenizer, held_out[:_SHOWN]))
    write_log(job.folder / LOG, trainer.log)
    sizes = sorted({*settings.training.scales, *job.preset.all_sizes})
    return measure(tokenizer, held_out, sizes, job.preset.compute.encoding_batch)


@torch.inference_mode()
def reconstructions(tokenizer: Tokenizer, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images and what is left of them after quantisation: uint8 (2, n, 3, H, W)."""
    images = _images(tokenizer, pixels)
    finest = images.shape[-1] // tokenizer.stride
    decoded = tokenizer.decode(tokenizer.codes(images, [finest])[finest])
    return np.stack([pixels, to_uint8(decoded).cpu().numpy()])


@torch.inference_mode()
def measure(
    tokenizer: Tokenizer, pixels: NDArray[np.uint8], sizes: list[int], batch: int
) -> dict[str, dict[str, float]]:
    """Return fidelity (PSNR in dB) and use of the codebook, size by size.

    Usage is the share of codes that any of these images chooses.
    """
    errors = dict.fromkeys(sizes, 0.0)
    counts = {size: torch.zeros(len(tokenizer.codebook)) for size in sizes}
    for start in range(0, len(pixels), batch):
        images = _images(tokenizer, pixels[start : start + batch])
        for size, target in image_pyramid(images, sizes, tokenizer.stride).items():
            # The pyramid of an image at its own size is that image.
            codes = tokenizer.codes(target, [size])[size]
            decoded = tokenizer.decode(codes).clamp(-1, 1)
            errors[size] += float((decoded - target).square().mean((1, 2, 3)).sum())
            counts[size] += torch.bincount(codes.flatten().cpu(), minlength=len(counts[size]))
    return {
        "psnr": {str(size): psnr(total / len(pixels)) for size, total in errors.items()},
        "codebook_usage": {
            str(size): float((found > 0).double().mean()) for size, found in counts.items()
        },
        "perplexity": {str(size): perplexity(found) for size, found in counts.items()},
    }


def psnr(error: float) -> float:
    """Return decibels of a mean squared error on images in [-1, 1]."""
    return 10 * float(np.log10(4 / error))


def _images(tokenizer: Tokenizer, pixels: NDArray[np.uint8]) -> Tensor:
    """Return pixels on the tokenizer's device, in [-1, 1]."""
    return from_uint8(torch.from_numpy(pixels.copy()).to(tokenizer.codebook.device))
