"""`pcb parity`: a released folder against the values that its `expected.npz` records.

The quantities are the pyramid's codes, conditioning latents, latents and images, teacher-forced
logits and loss, and greedy samples with and without guidance. `pcb.systems.parity.comparison` says
what agrees, and compares recorded folders of the other systems.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pcb.errors import UserError
from pcb.external.released import CONFIG, Released, load_released
from pcb.model.inputs import teacher_forced
from pcb.model.layers import AttentionContext
from pcb.model.sequence import sequence_of
from pcb.order.schedule import Schedule, schedule_from_blocks
from pcb.runtime.npz import npz_errors_explained
from pcb.sample.filter import GREEDY
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import sampler_for
from pcb.systems.parity.comparison import Comparison, comparison, print_table
from pcb.systems.parity.comparison import compare as compare_system
from pcb.systems.parity.recording import CONFIG as DESCRIPTION
from pcb.tokenizer.pyramid import conditioning, resize_bilinear

GREEDY_START_STEP = 2
"""First guided step of the recorded guided samples, unless the file holds `cfg_start_step`."""
Expected = dict[str, NDArray[np.generic]]


@torch.inference_mode()
def compare(folder: Path) -> list[Comparison]:
    """Load a released folder and compare it with its expected.npz; empty if it has none."""
    released = load_released(folder)
    path = folder / "expected.npz"
    if not path.exists():
        return []
    with npz_errors_explained(path), np.load(path, allow_pickle=False) as file:
        expected: Expected = dict(file)
    return [
        *_pyramid(released, expected),
        *_teacher_forced(released, expected),
        *_greedy(released, expected),
    ]


def main(folder: Path) -> int:
    """Print the table of a folder, of the paper's own model or of another system.

    Returns 1 if a quantity is out of tolerance, else 0. Raises UserError for another folder.
    """
    if (folder / DESCRIPTION).is_file():
        return print_table(folder, compare_system(folder))
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder}: holds neither {CONFIG}, as the released layout does, nor {DESCRIPTION}, as "
            "recorded folders of the other systems do"
        )
    return print_table(folder, compare(folder))


def _pyramid(released: Released, expected: Expected) -> Iterator[Comparison]:
    """Encode, quantize, upsample and decode the recorded image."""
    tokenizer, sizes = released.tokenizer, released.transformer.sizes
    image = _tensor(expected, "image")
    codes = tokenizer.codes(image, sizes)
    upscaled = conditioning(codes, tokenizer.codebook, sizes)
    for size in sizes:
        yield _comparison(f"codes_{size}", codes[size], expected)
        yield _comparison(f"upscaled_{size}", upscaled[size], expected)
    finest = resize_bilinear(image, tokenizer.stride * sizes[-1])
    yield _comparison("encoded", tokenizer.encode(finest), expected)
    yield _comparison("decoded", tokenizer.decode(codes[sizes[-1]]), expected)


def _teacher_forced(released: Released, expected: Expected) -> Iterator[Comparison]:
    """Run all tokens at once; logits in the order of the sequence."""
    model = released.transformer
    sequence = sequence_of(_schedule(released, expected))
    codes = {size: _tensor(expected, f"codes_{size}").long() for size in model.sizes}
    labels_B = _labels(expected)
    inputs, codes_BT = teacher_forced(sequence, labels_B, codes, model.codebook_VC)
    logits_BTV = model.logits(model(inputs, AttentionContext(mask=sequence.mask_LL())))
    yield _comparison("teacher_forced_logits", logits_BTV, expected)
    loss = F.cross_entropy(logits_BTV.flatten(0, 1), codes_BT.flatten())
    yield _comparison("teacher_forced_loss", loss, expected)


def _greedy(released: Released, expected: Expected) -> Iterator[Comparison]:
    """Take the likeliest codes for every recorded guidance weight."""
    model, sizes = released.transformer, released.transformer.sizes
    found = (re.fullmatch(r"greedy_cfg(.+)_steps", key) for key in expected)
    start = int(expected.get("cfg_start_step", np.array(GREEDY_START_STEP)))
    for text in sorted(match[1] for match in found if match):
        schedule = _schedule(released, expected)
        guidance = Guidance(weight=float(text), start_step=start)
        sampler = sampler_for(model, schedule, guidance=guidance, filter=GREEDY)
        labels = _labels(expected)
        codes_BT = sampler.sample(labels, torch.zeros(len(labels), model.tokens))
        prefix = f"greedy_cfg{text}"
        yield _comparison(f"{prefix}_steps", torch.tensor(schedule.steps), expected)
        grids = codes_BT.split([size * size for size in sizes], dim=1)
        for size, grid in zip(sizes, grids, strict=True):
            yield _comparison(f"{prefix}_codes_{size}", grid.view(-1, size, size), expected)
        image = released.tokenizer.decode(grids[-1].view(-1, sizes[-1], sizes[-1]))
        yield _comparison(f"{prefix}_image", image, expected)


def _schedule(released: Released, expected: Expected) -> Schedule:
    """Return the schedule of the recorded K."""
    return schedule_from_blocks(released.transformer.sizes, int(expected["blocks_per_scale"]))


def _labels(expected: Expected) -> Tensor:
    """Return the recorded labels."""
    return _tensor(expected, "labels").long()


def _comparison(name: str, value: Tensor, expected: Expected) -> Comparison:
    return comparison(name, value, _tensor(expected, name))


def _tensor(expected: Expected, name: str) -> Tensor:
    """Return a recorded array, or raise UserError."""
    if name not in expected:
        raise UserError(f"expected.npz has no `{name}`; it holds {', '.join(sorted(expected))}")
    return torch.from_numpy(np.asarray(expected[name]))
