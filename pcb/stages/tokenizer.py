"""The stage `tokenizer`: trains one, gives LlamaGen's a new codebook, or takes the released one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcb.data.arrays import save_array
from pcb.data.images import Images, first_images, open_images
from pcb.errors import UserError
from pcb.external.autoencoder import (
    load_released_autoencoder,
    read_autoencoder_settings,
)
from pcb.external.files import external_file, external_sha256
from pcb.external.llamagen import load_llamagen
from pcb.metrics.features import Extractor
from pcb.metrics.inception import load_inception
from pcb.metrics.reconstruction import measure, reconstructions
from pcb.pipeline.job import Entry, Job
from pcb.runtime.device import compute_exactly, pick_device, set_tf32
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


def run(job: Job) -> Mapping[str, Any]:
    """Make the tokenizer in the way that `tokenizer.source` says."""
    return _BUILDERS[job.preset.tokenizer.source](job)


def _train(job: Job) -> dict[str, Any]:
    """Train to the end and write weights, log and reconstructions."""
    settings = job.preset.tokenizer
    assert settings.training is not None
    device = pick_device(job.preset.compute)
    compute_exactly(device, job.preset.compute.threads)
    # The initial weights come from the CPU's generator on any device.
    torch.manual_seed(settings.training.seed)
    tokenizer = Tokenizer(settings.autoencoder)
    initialize(tokenizer)
    objective = TokenizerObjective(
        tokenizer=tokenizer.to(device),
        images=open_images(job.inputs["data"], job.preset, "train"),
        settings=settings.training,
    )
    write_log(job.folder / LOG, _trained(job, objective))
    tokenizer.eval().requires_grad_(False)
    held_out = open_images(job.inputs["data"], job.preset, "held_out")
    shown = first_images(held_out, _SHOWN)
    save_weights(job.folder / TOKENIZER_FILE, tokenizer.state_dict())
    save_array(job.folder / RECONSTRUCTIONS, reconstructions(tokenizer, shown))
    sizes = sorted({*settings.training.scales, *job.preset.all_sizes})
    chosen = np.arange(min(_MEASURED, len(held_out)))
    return measure(
        tokenizer, in_batches(held_out, chosen, job.preset.compute.encoding_batch), sizes
    )


def _requantize(job: Job) -> dict[str, Any]:
    """Train a new codebook for LlamaGen's autoencoder, and measure it beside LlamaGen's own."""
    compute, settings = job.preset.compute, job.preset.tokenizer.requantization
    assert settings is not None
    autoencoder = job.preset.tokenizer.autoencoder
    device = pick_device(compute)
    compute_exactly(device, compute.threads, tf32=job.preset.tokenizer.tf32)
    own = load_llamagen(external_file(job.preset.files, "llamagen"), autoencoder).to(device)
    own.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extractor = None
    if settings.rfid:
        # Before the training: what is missing shows now.
        extractor = load_inception(external_file(job.preset.files, "inception"), device)
    objective = CodebookObjective(
        latents=_latents(job, own),
        settings=settings,
        shape=(autoencoder.codebook_size, autoencoder.code_dim),
        device=device,
    )
    write_log(job.folder / LOG, _trained(job, objective))
    codes = objective.codes_VC().detach()
    save_weights(job.folder / TOKENIZER_FILE, {**own.state_dict(), "codebook": codes})
    return _measure_both(job, own, codes, extractor)


def _trained(job: Job, objective: Objective[Tensor]) -> list[dict[str, float]]:
    """Train an objective to its end, from where an interrupted run was; return the log."""
    seconds = job.preset.compute.checkpoint_seconds
    loop = Loop(objective=objective, folder=job.folder, checkpoint_seconds=seconds)
    loop.resume()
    with job.progress("iterations", objective.iterations) as progress:
        loop.run(progress)
    return loop.log


def _measure_both(
    job: Job, own: Tokenizer, codes: Tensor, extractor: Extractor | None
) -> dict[str, Any]:
    """Measure LlamaGen's own codebook and the new one; write some reconstructions by both."""
    settings, batch = job.preset.tokenizer.requantization, job.preset.compute.encoding_batch
    assert settings is not None
    set_tf32(False)
    codebooks = {"_before": own.codebook, "": codes}
    where, images = _held_out(job)
    chosen = evenly(images, settings.measured_images)
    shown = next(in_batches(images, evenly(images, min(_SHOWN, len(chosen))), _SHOWN))
    pictures = reconstructions(own, shown, list(codebooks.values()))
    save_array(job.folder / RECONSTRUCTIONS, pictures)
    with job.progress("images measured", len(chosen)) as progress:
        found = measure(
            own,
            counted(in_batches(images, chosen, batch), progress),
            sorted({*settings.scales, *job.preset.all_sizes}),
            codebooks=codebooks,
            similarity=True,
            extractor=extractor,
        )
    return {
        **found,
        "measured_on": where,
        "measured_images": len(chosen),
        "sha256": external_sha256(job.preset.files, "llamagen"),
    }


def _latents(job: Job, own: Tokenizer) -> Latents:
    """Return where the new codebook's training gets its latents from; fill the cache if asked."""
    settings, device = job.preset.tokenizer.requantization, own.codebook.device
    assert settings is not None
    images = open_images(job.inputs["data"], job.preset, "train")
    if settings.cached_images is None:
        return EncodedLatents(own, images)
    with job.progress("crops", settings.cached_images) as progress:
        fill_cache(
            job.folder,
            own,
            images,
            settings.scales,
            seed=settings.seed,
            stream=CROPS,
            batch=job.preset.compute.encoding_batch,
            progress=progress,
        )
    return CachedLatents(job.folder, settings.scales, device)


def _held_out(job: Job) -> tuple[str, Images]:
    """Return images to measure on, and what they are: held-out ones if there are any.

    Otherwise training images do: a codebook has few weights, and nothing can fit single images.
    """
    held_out = open_images(job.inputs["data"], job.preset, "held_out")
    if len(held_out):
        return "held-out images", held_out
    return "training images", open_images(job.inputs["data"], job.preset, "train")


def _release(job: Job) -> dict[str, Any]:
    """Take the authors' weights as they are: without images, nothing can be measured."""
    files, settings = job.preset.files, job.preset.tokenizer.autoencoder
    config = external_file(files, "autoenc-config")
    described = read_autoencoder_settings(config)
    for name in described.__struct_fields__:
        value, expected = getattr(described, name), getattr(settings, name)
        if value != expected:
            raise UserError(
                f"{config}: {name} is {value}, but tokenizer.autoencoder.{name} = {expected}"
            )
    tokenizer = load_released_autoencoder(external_file(files, "autoenc"), settings)
    save_weights(job.folder / TOKENIZER_FILE, tokenizer.state_dict())
    return {"codes": len(tokenizer.codebook), "sha256": external_sha256(files, "autoenc")}


_BUILDERS: Mapping[str, Entry] = {"train": _train, "requantize": _requantize, "released": _release}
