"""Paths of external files on this machine. None of them enters a key."""

from typing import Literal, get_args

from pcb.config.base import Settings
from pcb.errors import UserError
from pcb.published.systems import catalog

ReleasedModel = Literal["checkerboard-L-2x", "checkerboard-L-4x"]
"""What a model of a preset may name under `released`."""
ExternalFile = Literal[
    "inception",
    "adm-reference",
    "adm-samples",
    "llamagen",
    "autoenc",
    "autoenc-config",
    "checkerboard-L-2x",
    "checkerboard-L-2x-config",
    "checkerboard-L-4x",
    "checkerboard-L-4x-config",
]
"""Names of external files beside those of other systems; where each is published stands in
`pcb.external.catalog`."""
RELEASED_MODELS: tuple[str, ...] = get_args(ReleasedModel)


class Files(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of a machine, top-level `files` of params.yaml; params.local.yaml overrides them."""

    folder: str = "external"
    """Where `pcb fetch` puts what it downloads, and where stages look for it."""
    imagenet: str | None = None
    """Training images: a folder per class, or a tar per class."""
    imagenet_validation: str | None = None
    """Validation images: a folder per class, or one flat folder with its ground-truth file."""
    own: dict[str, str] = {}
    """Name of a file that `pcb fetch` knows -> path of one's own to take instead, as it is."""


def system_file(system: str) -> str:
    """Return the name of the file of a system's weights."""
    return system


def system_tokenizer_file(system: str) -> str:
    """Return the name of the file of a system's own tokenizer."""
    return f"{system}-tokenizer"


def external_files() -> tuple[str, ...]:
    """Return the names of all external files that are known."""
    systems = catalog().values()
    weights = [system_file(s.name) for s in systems if s.weights is not None]
    tokenizers = [system_tokenizer_file(s.name) for s in systems if s.tokenizer is not None]
    return (*get_args(ExternalFile), *weights, *tokenizers)


def check_own(files: Files, place: str) -> None:
    """Refuse a file of one's own under a name that nobody knows. Raises UserError with `place`."""
    for name in files.own:
        if name not in external_files():
            raise UserError(
                f"{place}.own: no file {name!r} is known; there are {', '.join(external_files())}"
            )
