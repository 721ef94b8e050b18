"""Types that settings are made of, and the base of every group of them."""

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
NAME = r"[a-z0-9][a-z0-9_.-]*"
"""Names of presets and models, which folders and files are called by."""
NAME_LENGTH = 100


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every group of settings: frozen, by keyword only, an unknown key is an error."""
