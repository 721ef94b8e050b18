"""Parts of the stage `sample`: whole batches and random numbers."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from pcb.bench.bounds import sampling_phases
from pcb.bench.case import FAST, Case, Part, Precision, Scope
from pcb.bench.standins import random_model
from pcb.device import DTYPES
from pcb.params import load_preset
from pcb.sample.draw import labels, uniforms
from pcb.sample.guidance import Guidance
from pcb.sample.sampler import Sampler
from pcb.schedule import schedule_from_blocks

_GUIDANCE = Guidance(weight=1.5, start_step=5)
_RUNS = {
    # name: preset, its model, blocks a scale
    "mini": ("mini", "ratio2", 4),
    "S-2x": ("paper", "s-2x", 4),
    "L-2x": ("paper", "l-2x", 4),
    "L-4x": ("paper", "l-4x", 8),
}
_UNIFORMS_IMAGES = 64


def parts(scope: Scope) -> Iterator[Part]:
    """Yield whole batches: the paper's sizes on a GPU, the miniature's and a small S on a CPU."""
    if scope == "full":
        for run in ("S-2x", "L-2x", "L-4x"):
            for batch in (1, 8, 64, 256):
                yield _batch(run, batch, Guidance(), "bfloat16")
                yield _batch(run, batch, _GUIDANCE, "bfloat16")
    elif scope == "short":
        yield _batch("mini", 2, _GUIDANCE)
        yield _batch("mini", 64, _GUIDANCE)
        yield _batch("S-2x", 2, _GUIDANCE)
    else:
        yield _batch("mini", 2, _GUIDANCE)
    yield Part(name="sampling/uniforms", item="images", make=_uniforms)


def _batch(run: str, batch: int, guidance: Guidance, precision: Precision = "float32") -> Part:
    guided = "-guided" if guidance.weight else ""
    return Part(
        name=f"sampling/{run}/b{batch}{guided}",
        item="images",
        make=partial(_draw, run, batch, guidance, precision),
        precision=precision,
        kind="sampling",
    )


def _draw(
    run: str, batch: int, guidance: Guidance, precision: Precision, device: torch.device
) -> Case:
    """Draw one batch; the weights are random, on which time does not depend."""
    preset, name, blocks = _RUNS[run]
    settings = load_preset(preset)
    sizes, classes = settings.sizes(name), settings.data.num_classes
    schedule = schedule_from_blocks(sizes, blocks)
    model = random_model(settings, name, sizes).to(device, DTYPES[precision])
    model = model.eval().requires_grad_(False)
    sampler = Sampler(model, schedule, guidance=guidance)
    images = np.arange(batch)
    classes_B = torch.from_numpy(labels(classes, images)).to(device)
    numbers = torch.from_numpy(uniforms(0, images, sizes)).to(device)
    guided_from = guidance.start_step if guidance.weight else None
    return Case(
        variants={FAST: lambda: sampler.draw(classes_B, numbers)},
        items=batch,
        phases=tuple(
            sampling_phases(
                settings.models[name].model,
                settings.tokenizer.autoencoder,
                schedule,
                guided_from,
                batch=batch,
                value_bytes=model.head.weight.element_size(),
            )
        ),
        settings={
            "batch": batch,
            "blocks": blocks,
            "guidance": guidance.weight,
            "guided_from": guided_from,
            "steps": schedule.steps,
        },
    )


def _uniforms(device: torch.device) -> Case:
    """Make the random numbers of some images, which a CPU does."""
    sizes = load_preset("paper").sizes("l-2x")
    images = np.arange(_UNIFORMS_IMAGES)
    return Case(variants={FAST: lambda: uniforms(0, images, sizes)}, items=len(images))
