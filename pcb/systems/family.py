"""The systems that LlamaGen's transformer is the base of, by the names in recorded folders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pcb.published.guidance import Guidance
from pcb.systems import llamagen, nar, par, randar
from pcb.systems.backbone import Backbone, Size
from pcb.systems.stepping import FamilyDecoder
from pcb.systems.weights import read_config, read_tensors, with_weights

WRAPPERS = ("model", "module", "state_dict")
"""Keys under which released pickles have their tensors."""
TeacherForced: TypeAlias = Callable[[Any, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A system: its model, its decoding, and its logits of all tokens of given images at once."""

    size: type[Size]
    model: Callable[[Any], Backbone]
    decoder: Callable[[Any, Guidance, int | None], FamilyDecoder]
    """The number counts the steps that a schedule is made for; a fixed order has its own."""
    teacher_forced: TeacherForced


FAMILY = {
    "LlamaGen": Member(
        size=Size,
        model=llamagen.LlamaGen,
        decoder=lambda model, guidance, _: llamagen.LlamaGenDecoder(model, guidance),
        teacher_forced=llamagen.teacher_forced,
    ),
    "PAR": Member(
        size=par.ParSize,
        model=par.Par,
        decoder=lambda model, guidance, _: par.ParDecoder(model, guidance),
        teacher_forced=par.teacher_forced,
    ),
    "RandAR": Member(
        size=Size,
        model=randar.RandAr,
        decoder=lambda model, guidance, steps: randar.RandArDecoder(model, guidance, steps=steps),
        teacher_forced=randar.teacher_forced,
    ),
    "NAR": Member(
        size=Size,
        model=nar.Nar,
        decoder=lambda model, guidance, _: nar.NarDecoder(model, guidance),
        teacher_forced=nar.teacher_forced,
    ),
}


def empty_model(system: str, description: Mapping[str, Any], source: str) -> Backbone:
    """Return a model on the meta device, of the size that a mapping describes.

    `source` names the mapping in errors. Raises UserError for what no model can be made of.
    """
    member = FAMILY[system]
    size = read_config(description, member.size, source)
    with torch.device("meta"):
        return member.model(size)


def load_model(model: Backbone, path: Path) -> Backbone:
    """Fill a model of the meta device from a released file, in evaluation mode, on the CPU.

    Raises UserError naming the file and tensors that are missing, unknown or of another shape.
    """
    tensors = read_tensors(path, WRAPPERS)
    needed = {name: x for name, x in tensors.items() if name not in model.passed_over}
    return with_weights(model, needed, path)
