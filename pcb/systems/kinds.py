"""Every kind of model in the catalog: built, loaded and decoded under one signature.

Letters: B images, T tokens of an image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn

from pcb.errors import UserError
from pcb.order.locality import group_sizes, image_order
from pcb.order.random import random_orders
from pcb.order.remaining import remaining_blocks
from pcb.published.guidance import Guidance
from pcb.published.system import System
from pcb.sample.decoder import Decoder
from pcb.sample.filter import Filter
from pcb.systems.arpg import ARPG, ARPGConfig, ARPGDecoder, load_arpg
from pcb.systems.family import FAMILY, Member, empty_model, load_model
from pcb.systems.lpd import LPD, LPDConfig, LPDDecoder, load_lpd
from pcb.systems.var import VAR, VARConfig, load_var
from pcb.systems.var_decoding import VARDecoder
from pcb.systems.var_tokenizer import VARTokenizer
from pcb.systems.weights import read_config

Description: TypeAlias = Mapping[str, Any]
Images: TypeAlias = NDArray[np.int64]
Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a kind of model is used. A description is that of the catalog or of a config.json.

    Descriptions come with the name of where they stand, for errors. `steps` is what a schedule is
    made for, None where the order gives the blocks.
    """

    build: Callable[[Description, str], nn.Module]
    """Return a model with random weights on the default device."""
    load: Callable[[Description, str, Path], nn.Module]
    """Return a model with a file's weights, on the CPU, in evaluation mode."""
    decoder: Callable[[Any, Guidance, int | None, nn.Module | None], Decoder]
    """Return a decoder of a model; the last argument is its tokenizer, which VAR alone needs."""
    orders: Callable[[Any, int | None, int, Images], Images] | None = None
    """From model, steps, seed and the images' indices: one order each, (B, T); None if fixed."""


def _of_family(name: str, member: Member) -> Kind:
    def build(description: Description, source: str) -> nn.Module:
        return member.model(read_config(description, member.size, source))

    def load(description: Description, source: str, path: Path) -> nn.Module:
        return load_model(empty_model(name, description, source), path)

    def orders(model: Any, _steps: int | None, seed: int, images: Images) -> Images:
        return random_orders(model.size.side, seed, images)

    return Kind(
        build=build,
        load=load,
        decoder=lambda model, guidance, steps, _tokenizer: member.decoder(model, guidance, steps),
        orders=orders if name == "RandAR" else None,
    )


def _alone(
    model: Callable[[Config], nn.Module],
    config: type[Config],
    load: Callable[[Path, Config], nn.Module],
    decoder: Callable[[Any, Guidance, int | None, nn.Module | None], Decoder],
    orders: Callable[[Any, int | None, int, Images], Images] | None = None,
) -> Kind:
    return Kind(
        build=lambda description, source: model(read_config(description, config, source)),
        load=lambda description, source, path: load(path, read_config(description, config, source)),
        decoder=decoder,
        orders=orders,
    )


def _arpg(model: ARPG, guidance: Guidance, steps: int | None, _: nn.Module | None) -> Decoder:
    side, tokens = model.config.grid[0], model.config.tokens
    sizes = _blocks(lambda: remaining_blocks(tokens, steps or tokens, model.config.curve), "ARPG")
    return ARPGDecoder(model, guidance, sizes, side)


def _arpg_orders(model: ARPG, _steps: int | None, seed: int, images: Images) -> Images:
    return random_orders(model.config.grid[0], seed, images)


def _lpd(model: LPD, guidance: Guidance, steps: int | None, _: nn.Module | None) -> Decoder:
    return LPDDecoder(model, guidance, _lpd_blocks(model, steps))


def _lpd_orders(model: LPD, steps: int | None, seed: int, images: Images) -> Images:
    sizes, side = _lpd_blocks(model, steps), model.config.grid[0]
    return np.stack([image_order(seed, int(image), sizes, side) for image in images])


def _lpd_blocks(model: LPD, steps: int | None) -> tuple[int, ...]:
    tokens = model.config.tokens
    return _blocks(lambda: group_sizes(tokens, steps or tokens), "LPD")


def _var(model: VAR, guidance: Guidance, _: int | None, tokenizer: nn.Module | None) -> Decoder:
    assert isinstance(tokenizer, VARTokenizer), "VAR samples with its own tokenizer"
    return VARDecoder(model, guidance, tokenizer.quantize)


def _blocks(sizes: Callable[[], tuple[int, ...]], name: str) -> tuple[int, ...]:
    """Return block sizes; a number of steps that cannot be is the user's error."""
    try:
        return sizes()
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


KINDS = {name: _of_family(name, member) for name, member in FAMILY.items()} | {
    "ARPG": _alone(ARPG, ARPGConfig, load_arpg, _arpg, _arpg_orders),
    "LPD": _alone(LPD, LPDConfig, load_lpd, _lpd, _lpd_orders),
    "VAR": _alone(VAR, VARConfig, load_var, _var),
}
"""By the name that the catalog and recorded folders use."""


def filter_of(system: System) -> Filter:
    """Return the filter of logits that a system was published with."""
    return Filter(temperature=system.temperature, top_k=system.top_k, top_p=system.top_p)
