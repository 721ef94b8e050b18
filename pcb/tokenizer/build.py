"""The stage `tokenizer`: trains one, gives LlamaGen's a new codebook, or takes the released one."""

from collections.abc import Mapping
from typing import Any

import torch

from pcb.data.arrays import save_array
from pcb.data.images import first_images, open_images
from pcb.device import compute_exactly, pick_device
from pcb.errors import UserError
from pcb.files import external_file, external_sha256
from pcb.model.weights import save_weights
from pcb.stage import Entry, Job
from pcb.tokenizer.batches import in_order
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.measure import measure, reconstructions
from pcb.tokenizer.released import (
    load_released_autoencoder,
    read_yaml,
    released_autoencoder_settings,
)
from pcb.tokenizer.train import TokenizerTrainer, initialise
from pcb.tokenizer.vq import Tokenizer
from pcb.train.run import write_log

LOG = "log.csv"
RECONSTRUCTIONS = "reconstructions.npy"
_SHOWN = 16
_MEASURED = 1000


def build(job: Job) -> Mapping[str, Any]:
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
    held_out = open_images(job.inputs["data"], job.preset, "held_out")
    shown = first_images(held_out, _SHOWN)
    save_weights(job.folder / TOKENIZER_FILE, tokenizer.state_dict())
    save_array(job.folder / RECONSTRUCTIONS, reconstructions(tokenizer, shown))
    write_log(job.folder / LOG, trainer.log)
    sizes = sorted({*settings.training.scales, *job.preset.all_sizes})
    batches = in_order(held_out, _MEASURED, job.preset.compute.encoding_batch)
    return measure(tokenizer, batches, sizes)


def _release(job: Job) -> dict[str, Any]:
    """Take the authors' weights as they are: without images, nothing can be measured."""
    files, settings = job.preset.files, job.preset.tokenizer.autoencoder
    config = external_file(files, "autoenc-config")
    described = released_autoencoder_settings(read_yaml(config))
    for name in described.__struct_fields__:
        value, expected = getattr(described, name), getattr(settings, name)
        if value != expected:
            raise UserError(
                f"{config}: {name} is {value}, but tokenizer.autoencoder.{name} = {expected}"
            )
    tokenizer = load_released_autoencoder(external_file(files, "autoenc"), settings)
    save_weights(job.folder / TOKENIZER_FILE, tokenizer.state_dict())
    return {"codes": len(tokenizer.codebook), "sha256": external_sha256(files, "autoenc")}


_BUILDERS: Mapping[str, Entry] = {"train": _train, "released": _release}
