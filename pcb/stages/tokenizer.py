"""The stage `tokenizer`: trains one, gives LlamaGen's a new codebook, or takes the released one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcb.config import Autoencoder, Files, Preset, Requantization
from pcb.data.arrays import save_array
from pcb.data.images import Images, first_images, open_images
from pcb.errors import UserError
from pcb.external.autoencoder import (
    load_released_autoencoder,
    read_autoencoder_settings,
)
from pcb.external.files import external_file, external_sha256
from pcb.external.llamagen import load_llamagen
from pcb.metrics.inception import load_inception
from pcb.metrics.reconstruction import measure, reconstructions
from pcb.pipeline.job import Job
from pcb.runtime.device import compute_exactly, pick_device, set_tf32
from pcb.runtime.progress import ShowProgress
from pcb.runtime.weights import save_weights
from pcb.stages.train import write_log
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer
from pcb.train.image_batches import counted, evenly, in_batches
from pcb.train.latents import CachedLatents, EncodedLatents, Latents, fill_cache
from pcb.train.loop import Loop, Objective
from pcb.train.requantize import CROPS, CodebookObjective
from pcb.train.tokenizer import TokenizerObjective, initialize

LOG = "log.csv"
RECONSTRUCTIONS = "reconstructions.npy"
_SHOWN = 16
_MEASURED = 1000


def run(job: Job) -> dict[str, Any]:
    """Make the tokenizer in the way that `tokenizer.source` says."""
    preset, folder = job.preset, job.folder
    if preset.tokenizer.source == "released":
        return take_released(preset.files, preset.tokenizer.autoencoder, folder)
    make = {"train": train, "requantize": requantize}[preset.tokenizer.source]
    return make(preset, job.inputs["data"], folder, job.progress)


def train(preset: Preset, data: Path, folder: Path, progress: ShowProgress) -> dict[str, Any]:
    """Train on the images in `data`; write weights, log and reconstructions into `folder`."""
    settings, compute = preset.tokenizer, preset.compute
    assert settings.training is not None
    device = pick_device(compute)
    compute_exactly(device, compute.threads)
    # The initial weights come from the CPU's generator on any device.
    torch.manual_seed(settings.training.seed)
    tokenizer = Tokenizer(settings.autoencoder)
    initialize(tokenizer)
    objective = TokenizerObjective(
        tokenizer=tokenizer.to(device),
        images=open_images(data, preset, "train"),
        settings=settings.training,
    )
    log = trained(objective, folder, compute.checkpoint_seconds, progress)
    write_log(folder / LOG, log)
    tokenizer.eval().requires_grad_(False)
    held_out = open_images(data, preset, "held_out")
    shown = first_images(held_out, _SHOWN)
    save_weights(folder / TOKENIZER_FILE, tokenizer.state_dict())
    save_array(folder / RECONSTRUCTIONS, reconstructions(tokenizer, shown))
    sizes = sorted({*settings.training.scales, *preset.all_sizes})
    chosen = np.arange(min(_MEASURED, len(held_out)))
    return measure(tokenizer, in_batches(held_out, chosen, compute.encoding_batch), sizes)


def requantize(preset: Preset, data: Path, folder: Path, progress: ShowProgress) -> dict[str, Any]:
    """Train a new codebook for LlamaGen's autoencoder, and measure it beside LlamaGen's own."""
    compute, settings = preset.compute, preset.tokenizer.requantization
    assert settings is not None
    autoencoder = preset.tokenizer.autoencoder
    device = pick_device(compute)
    compute_exactly(device, compute.threads, tf32=preset.tokenizer.tf32)
    own = load_llamagen(external_file(preset.files, "llamagen"), autoencoder).to(device)
    own.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extractor = None
    if settings.rfid:
        # Before the training: what is missing shows now.
        extractor = load_inception(external_file(preset.files, "inception"), device)
    training_images = open_images(data, preset, "train")
    objective = CodebookObjective(
        latents=latents_of(
            own, training_images, settings, folder, compute.encoding_batch, progress
        ),
        settings=settings,
        shape=(autoencoder.codebook_size, autoencoder.code_dim),
        device=device,
    )
    log = trained(objective, folder, compute.checkpoint_seconds, progress)
    write_log(folder / LOG, log)
    codes = objective.codes_VC().detach()
    save_weights(folder / TOKENIZER_FILE, {**own.state_dict(), "codebook": codes})
    where, images = measured_images(data, preset)
    chosen = evenly(images, settings.measured_images)
    sizes = sorted({*settings.scales, *preset.all_sizes})
    set_tf32(False)
    codebooks = {"_before": own.codebook, "": codes}
    shown = next(in_batches(images, evenly(images, min(_SHOWN, len(chosen))), _SHOWN))
    pictures = reconstructions(own, shown, list(codebooks.values()))
    save_array(folder / RECONSTRUCTIONS, pictures)
    with progress("images measured", len(chosen)) as counter:
        batches = counted(in_batches(images, chosen, compute.encoding_batch), counter)
        found = measure(
            own, batches, sizes, codebooks=codebooks, similarity=True, extractor=extractor
        )
    return {
        **found,
        "measured_on": where,
        "measured_images": len(chosen),
        "sha256": external_sha256(preset.files, "llamagen"),
    }


def trained(
    objective: Objective[Tensor],
    folder: Path,
    checkpoint_seconds: float,
    progress: ShowProgress,
) -> list[dict[str, float]]:
    """Train an objective to its end, from where an interrupted run was; return the log."""
    loop = Loop(objective=objective, folder=folder, checkpoint_seconds=checkpoint_seconds)
    loop.resume()
    with progress("iterations", objective.iterations) as counter:
        loop.run(counter)
    return loop.log


def latents_of(
    own: Tokenizer,
    images: Images,
    settings: Requantization,
    folder: Path,
    batch: int,
    progress: ShowProgress,
) -> Latents:
    """Return where the new codebook's training gets its latents from; fill the cache if asked."""
    if settings.cached_images is None:
        return EncodedLatents(own, images)
    with progress("crops", settings.cached_images) as counter:
        fill_cache(
            folder,
            own,
            images,
            settings.scales,
            seed=settings.seed,
            stream=CROPS,
            batch=batch,
            progress=counter,
        )
    return CachedLatents.open(folder, settings.scales, own.codebook.device)


def measured_images(data: Path, preset: Preset) -> tuple[str, Images]:
    """Return images to measure on, and what they are: held-out ones if there are any.

    Otherwise training images do: a codebook has few weights, and nothing can fit single images.
    """
    held_out = open_images(data, preset, "held_out")
    if len(held_out):
        return "held-out images", held_out
    return "training images", open_images(data, preset, "train")


def take_released(files: Files, settings: Autoencoder, folder: Path) -> dict[str, Any]:
    """Take the authors' weights as they are: without images, nothing can be measured."""
    config = external_file(files, "autoenc-config")
    described = read_autoencoder_settings(config)
    for name in described.__struct_fields__:
        value, expected = getattr(described, name), getattr(settings, name)
        if value != expected:
            raise UserError(
                f"{config}: {name} is {value}, but tokenizer.autoencoder.{name} = {expected}"
            )
    tokenizer = load_released_autoencoder(external_file(files, "autoenc"), settings)
    save_weights(folder / TOKENIZER_FILE, tokenizer.state_dict())
    return {"codes": len(tokenizer.codebook), "sha256": external_sha256(files, "autoenc")}
