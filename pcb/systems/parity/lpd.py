"""Recorded quantities of LPD, computed anew. Letters as in `pcb.systems.lpd`."""

import random
import re
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pcb.errors import UserError
from pcb.order.locality import GROUP_SIZES, locality_order
from pcb.published.guidance import Linear
from pcb.systems.lpd import LINEAR, LPD, LPDConfig, LPDDecoder, load_lpd, training_mask
from pcb.systems.parity.greedy import Kept, Quantities, Schedules, constant, greedy, guidance_of
from pcb.systems.parity.recording import CONFIG, EXPECTED, WEIGHTS, Recording
from pcb.systems.weights import read_config

_ORDER = re.compile(r"order(\d+)(?:_steps(\d+))?_repulsion([\d.]+)_seed(\d+)")
_SCHEDULES: Schedules = {
    "constant": constant,
    "linear per token": lambda given: Linear(last=given["scale"], count=LINEAR),
}


def is_input(name: str) -> bool:
    """Whether a recorded array is given to the model."""
    given = {"labels", "orders", "group_sizes", "mask_sizes", "teacher_codes"}
    return name in given or re.fullmatch(r"order\d+_sizes", name) is not None


def quantities(recording: Recording) -> Quantities:
    """Load a folder's model, strictly; yield name and value of all that can be computed."""
    source = f"{recording.folder / CONFIG}: tiny"
    config = read_config(recording.part("tiny"), LPDConfig, source)
    model = load_lpd(recording.folder / WEIGHTS, config)
    if not recording.expected:
        return
    sizes = tuple(recording.whole("group_sizes", None).tolist())
    if sum(sizes) != config.tokens:
        raise UserError(
            f"{recording.folder / EXPECTED}: group_sizes sum up to {sum(sizes)}, not to the"
            f" {config.tokens} tokens of the grid"
        )
    labels_B = recording.whole("labels", None, below=config.classes + 1)
    images, tokens = len(labels_B), config.tokens
    orders_BT = recording.whole("orders", images, tokens, below=tokens)
    yield from _orders(recording)
    if "mask_sizes" in recording:
        yield "training_mask", training_mask(recording.whole("mask_sizes", None).tolist())
    codes_BT = recording.whole("teacher_codes", images, tokens, below=config.codes)
    yield from _teacher_forced(model, sizes, labels_B, codes_BT, orders_BT)
    for name, run in recording.runs.items():
        if name.startswith("gen_"):
            make = partial(LPDDecoder, model, sizes=sizes)
            guidance = guidance_of(run, _SCHEDULES, recording)
            yield from greedy(make, guidance, name, labels_B, orders_BT)


def _orders(recording: Recording) -> Quantities:
    """The recorded orders, whose names say how they were made."""
    for name in recording.expected:
        if found := _ORDER.fullmatch(name):
            grid, repulsion, seed = int(found[1]), float(found[3]), int(found[4])
            sizes = (
                GROUP_SIZES.get((grid * grid, int(found[2])), ())
                if found[2]
                else tuple(recording.whole(f"order{grid}_sizes", None).tolist())
            )
            if sizes:
                order = locality_order(sizes, grid, random.Random(seed), repulsion=repulsion)
                yield name, torch.from_numpy(order)


def _teacher_forced(
    model: LPD, sizes: tuple[int, ...], labels_B: Tensor, codes_BT: Tensor, orders_BT: Tensor
) -> Quantities:
    """Logits and loss of the recorded codes, and what each block hands on for the first image."""
    with Kept({str(i): block for i, block in enumerate(model.blocks)}) as hidden:
        logits_BTV = model.teacher_forced(labels_B, codes_BT, orders_BT, sizes)
    yield "teacher_logits", logits_BTV
    targets_BT = codes_BT.gather(1, orders_BT)
    yield "teacher_loss", F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
    for i, x_BLC in hidden.items():
        yield f"teacher_hidden_block{i}_sample0", x_BLC[0]
