"""What the catalog says of a system. Facts alone; no torch, no files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pcb.systems.guidance import Guidance


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A released file of weights."""

    url: str
    path: str
    """Where it stands below `files.folder`."""
    bytes: int | None = None
    """None where nobody has published the size."""
    sha256: str | None = None
    """None where nobody has published it: the first copy that is used is trusted."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Published scores of 50,000 images at 256 x 256, and a published time of one image."""

    of: str
    """Where the row was published and, where there are several, which it is."""
    fid: float
    inception_score: float | None = None
    precision: float | None = None
    recall: float | None = None
    seconds: float | None = None
    timed: str | None = None
    """How the seconds were measured, as far as is known."""
    weights_released: bool = True
    """Whether the weights that gave the row were released."""


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Something that the published run and this package do differently."""

    what: str
    published: str
    here: str


@dataclass(frozen=True, kw_only=True)
class System:
    """A row of Table 1: its model, its published setting, its release."""

    name: str
    kind: str
    """Its name among the kinds of models (`pcb.systems.kinds`)."""
    paper: str
    """arXiv number."""
    description: Mapping[str, Any]
    """The size of the model, in the words of a recorded `config.json`."""
    parameters: int
    tensors: int
    """Tensors of the released file."""
    image_size: int
    """Side of the decoded images in pixels; other sides than 256 are resized to it."""
    steps: int
    """Model calls of an image one after another."""
    schedule_steps: int | None = None
    """What the schedule is made for where blocks follow one; None where the order gives them."""
    order: str
    blocks: str
    guidance: Guidance
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    tokenizer: str = "llamagen"
    """The published file that decodes its codes (`pcb.external.catalog`)."""
    tokenizer_weights: Weights | None = None
    """The file of a tokenizer that no other system has."""
    weights: Weights | None = None
    """None where there is no file: see `release`."""
    release: str
    """What was released, in one sentence."""
    license: str
    table1: Row
    """As the paper's Table 1 has it."""
    rows: tuple[Row, ...] = ()
    """Other rows of the same system."""
    deviations: tuple[Deviation, ...] = ()
    code_differs: tuple[str, ...] = field(default=())
    """In what the released code differs from its own paper."""
