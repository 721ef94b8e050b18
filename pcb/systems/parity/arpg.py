"""Recorded quantities of ARPG, computed anew.

Recorded names have the number of tokens where a quantity depends on the grid. Letters as in
`pcb.systems.arpg`.
"""

import math
import re
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pcb.errors import UserError
from pcb.order.remaining import Curve, remaining_blocks
from pcb.published.guidance import Linear
from pcb.systems.arpg import ARPG, ARPGConfig, ARPGDecoder, load_arpg, published_order
from pcb.systems.backbone import rotary_table
from pcb.systems.parity.greedy import Kept, Quantities, Schedules, constant, greedy, guidance_of
from pcb.systems.parity.recording import CONFIG, WEIGHTS, Recording
from pcb.systems.weights import read_config

_CURVES: dict[str, Curve] = {
    "arccos": "arccos",
    "cosine": "cosine",
    "cosine of the first release": "first release",
    "firstrelease": "first release",
}
_SCHEDULES: Schedules = {
    "constant": constant,
    "linear of the first release": lambda given: Linear(last=given["scale"], count="next"),
    "linear": lambda given: Linear(last=given["scale"], count="with block"),
}


def is_input(name: str) -> bool:
    """Whether a recorded array is given to the model."""
    return name == "labels" or re.fullmatch(r"teacher\d+_(codes|order)", name) is not None


def quantities(recording: Recording) -> Quantities:
    """Load a folder's model, strictly; yield name and value of all that can be computed."""
    source = f"{recording.folder / CONFIG}: tiny"
    config = read_config(recording.part("tiny"), ARPGConfig, source)
    model = load_arpg(recording.folder / WEIGHTS, config)
    if not recording.expected:
        return
    yield from _tables(config, recording)
    for name in recording.runs:
        if name.startswith("teacher"):
            yield from _teacher_forced(model, name, recording)
        else:
            yield from _run(model, name, recording)


def _tables(config: ARPGConfig, recording: Recording) -> Quantities:
    """Schedules, orders of the released code and phases, as recorded names give them."""
    for name in recording.expected:
        found = re.fullmatch(r"sizes_([a-z]+)_(\d+)_(\d+)", name)
        if found and found[1] in _CURVES:
            sizes = remaining_blocks(int(found[2]), int(found[3]), _CURVES[found[1]])
            yield name, torch.tensor(sizes)
        elif found := re.fullmatch(r"order(\d+)_seed(\d+)_batch(\d+)", name):
            tokens, seed, images = (int(number) for number in found.groups())
            yield name, published_order(seed, images, tokens)
        elif found := re.fullmatch(r"rotary_table(\d+)", name):
            yield name, rotary_table(config.size(math.isqrt(int(found[1]))))


def _teacher_forced(model: ARPG, name: str, recording: Recording) -> Quantities:
    """Logits and loss of the recorded codes, and what each block hands on."""
    labels_B = _labels(model, recording)
    codes_BT = recording.whole(f"{name}_codes", len(labels_B), None, below=model.config.codes)
    tokens = codes_BT.shape[1]
    orders_BT = recording.whole(f"{name}_order", len(labels_B), tokens, below=tokens)
    blocks = {f"self{i}": block for i, block in enumerate(model.layers.self_dec)}
    blocks |= {f"cross{i}": block for i, block in enumerate(model.layers.cross_dec)}
    with Kept(blocks) as hidden:
        logits_BTV = model.teacher_forced(labels_B, codes_BT, orders_BT)
    yield f"{name}_logits", logits_BTV
    targets_BT = codes_BT.gather(1, orders_BT)
    yield f"{name}_loss", F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
    yield from ((f"{name}_hidden_{block}", x_BLC) for block, x_BLC in hidden.items())
    null_B = torch.full_like(labels_B, model.config.classes)
    yield f"{name}_logits_uncond", model.teacher_forced(null_B, codes_BT, orders_BT)


def _labels(model: ARPG, recording: Recording) -> Tensor:
    return recording.whole("labels", None, below=model.config.classes + 1)


def _run(model: ARPG, name: str, recording: Recording) -> Quantities:
    """The order, blocks, guidance, codes and logits of a run."""
    run, labels_B = recording.runs[name], _labels(model, recording)
    match run:
        case {
            "grid": [int() as side, _],
            "steps": int() as steps,
            "schedule": str() as curve,
            "order_seed": int() as seed,
        } if curve in _CURVES:
            sizes = remaining_blocks(side * side, steps, _CURVES[curve])
        case _:
            raise UserError(f"{recording.folder / CONFIG}: the run {name} is not known")
    order_T = published_order(seed, len(labels_B), side * side)
    guidance = guidance_of(run, _SCHEDULES, recording)
    yield f"{name}_order", order_T
    yield f"{name}_block_sizes", torch.tensor(sizes)
    make = partial(ARPGDecoder, model, sizes=sizes, side=side)
    firsts = [first for first, _ in make(guidance).ends]
    yield f"{name}_scales", torch.from_numpy(guidance.scales(sizes))[firsts]
    yield from greedy(make, guidance, name, labels_B, order_T.expand(len(labels_B), -1))
