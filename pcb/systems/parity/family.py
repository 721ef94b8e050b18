"""Recorded quantities of LlamaGen, PAR, RandAR and NAR, computed anew.

Letters as in `pcb.systems.stepping`.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pcb.errors import UserError
from pcb.published.guidance import OFF, Guidance, Linear
from pcb.sample.filter import Filter, filtered
from pcb.systems.backbone import Backbone, causal, rotary_table
from pcb.systems.family import FAMILY, empty_model, load_model
from pcb.systems.images import resized, to_bytes
from pcb.systems.nar import Nar, both_heads
from pcb.systems.parity.greedy import Kept, Quantities, Schedules, constant, greedy, guidance_of
from pcb.systems.parity.recording import CONFIG, WEIGHTS, Recording
from pcb.systems.randar import RandAr
from pcb.systems.stepping import FamilyDecoder

_MASK_STEP = 8
"""Recorded masks of decoding have a multiple of so many positions."""
_SCHEDULES: Schedules = {
    "constant": constant,
    "linear in tokens drawn": lambda given: Linear(
        first=given["from"], last=given["to"], count="before block"
    ),
}


def is_input(name: str) -> bool:
    """Whether a recorded array is given to a model. Of orders random ones are; others compare."""
    return name in {"labels", "codes", "order", "filter_in", "resize_in"}


def quantities(recording: Recording) -> Quantities:
    """Load a folder's model, strictly; yield name and value of all that can be computed."""
    source = f"{recording.folder / CONFIG}: tiny"
    model = empty_model(recording.system, recording.part("tiny"), source)
    load_model(model, recording.folder / WEIGHTS)
    if not recording.expected:
        return
    yield from _positions(model, recording)
    yield from _teacher_forced(model, recording)
    for name, run in recording.runs.items():
        yield from _greedy(model, f"greedy_{name}", run, recording)
    yield from _filters(recording)
    if "resize_in" in recording:
        images = resized(
            recording.given("resize_in", None, 3, None, None), recording["resize_out"].shape[-1]
        )
        yield "resize_out", images
        yield "resize_uint8", to_bytes(images)


def _positions(model: Backbone, recording: Recording) -> Quantities:
    """Phases and masks of the sequence's positions."""
    table_LH2, mask_LL = rotary_table(model.size), model.sequence_mask()
    yield "rope", table_LH2[model.sequence_cells() + 1]
    yield "mask_train", mask_LL
    yield "mask_decode", _filled_up(mask_LL)
    if isinstance(model, RandAr):
        phases = table_LH2[_order(model, recording) + 1][:, :, None]
        yield "position_instruction_tokens", model.instructions(phases)
    else:
        decoder = FAMILY[recording.system].decoder(model, OFF, None)
        yield "order", torch.cat([decoder.cells(step) for step in range(decoder.steps)])


def _filled_up(mask_LL: Tensor) -> Tensor:
    """Return a mask of a multiple of `_MASK_STEP` positions; those at the end are causal."""
    length = len(mask_LL)
    mask = causal(-(-length // _MASK_STEP) * _MASK_STEP)
    mask[:length, :length] = mask_LL
    return mask


def _teacher_forced(model: Backbone, recording: Recording) -> Quantities:
    """Logits and loss of the recorded codes, and what each block hands on."""
    labels_B = _labels(model, recording)
    codes_BT = recording.whole("codes", len(labels_B), model.size.tokens, below=model.size.codes)
    teacher_forced = FAMILY[recording.system].teacher_forced
    with Kept({str(i): layer for i, layer in enumerate(model.layers)}) as blocks:
        logits_BTV, codes = teacher_forced(model, labels_B, codes_BT, _orders(model, recording))
    yield "teacher_forced_logits", logits_BTV
    yield "teacher_forced_loss", F.cross_entropy(logits_BTV.flatten(0, 1), codes.flatten())
    yield from ((f"teacher_forced_block_{i}", x_BLC) for i, x_BLC in blocks.items())
    if isinstance(model, Nar):
        right_BLV, below_BLV = both_heads(model, labels_B, codes_BT)
        yield "teacher_forced_right_logits", right_BLV
        yield "teacher_forced_below_logits", below_BLV


def _greedy(
    model: Backbone, prefix: str, run: Mapping[str, Any], recording: Recording
) -> Quantities:
    """The likeliest codes of a run, its order, blocks and scales, and the logits of every step."""
    guidance = guidance_of(run, _SCHEDULES, recording)
    steps = run.get("steps", recording.part("tiny").get("steps"))
    if not (steps is None or isinstance(steps, int)):
        raise UserError(f"{recording.folder / CONFIG}: steps = {steps!r}: expected a whole number")
    steps = None if steps == -1 else steps
    labels_B, orders_BT = _labels(model, recording), _orders(model, recording)

    def make(guidance: Guidance) -> FamilyDecoder:
        return FAMILY[recording.system].decoder(model, guidance, steps)

    decoder, made = make(guidance), dict(greedy(make, guidance, prefix, labels_B, orders_BT))
    yield f"{prefix}_codes", made[f"{prefix}_codes"]
    yield f"{prefix}_block_sizes", torch.tensor(decoder.sizes)
    firsts = [span.first for span in decoder.spans]
    yield f"{prefix}_scale_per_step", torch.from_numpy(guidance.scales(decoder.sizes))[firsts]
    for name, half in (("", "guided"), ("cond_", "cond"), ("uncond_", "uncond")):
        logits = [made[f"{prefix}_step{k}_logits_{half}"] for k in range(decoder.steps)]
        yield f"{prefix}_{name}logits", torch.cat(logits, dim=1)


def _orders(model: Backbone, recording: Recording) -> Tensor | None:
    """Return the recorded orders of images, where they are random."""
    return _order(model, recording) if isinstance(model, RandAr) else None


def _labels(model: Backbone, recording: Recording) -> Tensor:
    return recording.whole("labels", None, below=model.size.classes + 1)


def _order(model: Backbone, recording: Recording) -> Tensor:
    tokens, images = model.size.tokens, len(recording["labels"])
    return recording.whole("order", images, tokens, below=tokens)


def _filters(recording: Recording) -> Quantities:
    """Probabilities after temperature, top-k and top-p, as a recorded name gives them."""
    for name in recording.expected:
        found = re.fullmatch(r"filter_probs_t([\d.]+)_k(\d+)_p([\d.]+)", name)
        if found:
            temperature, top_k, top_p = float(found[1]), int(found[2]), float(found[3])
            filter = Filter(temperature=temperature, top_k=top_k, top_p=top_p)
            yield name, filtered(recording["filter_in"], filter).softmax(-1)
