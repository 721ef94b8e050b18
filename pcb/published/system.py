"""The schema of a published system's entry in the catalog."""

from typing import Any, Literal, TypeAlias

import msgspec

from pcb.published.guidance import Schedule

Size: TypeAlias = int | str | tuple[int, ...]
"""A number, a word or numbers of a model's description."""
Classes = Literal["balanced", "drawn"]
"""Every class equally often; or one at random for every image, by the image's index."""
Resize = Literal["bicubic", "antialiased"]
"""From another side than 256 on floats: as torch's bicubic is by itself; or with antialiasing."""
Rounding = Literal["cut", "nearest"]
"""Of floats in -1..1 to bytes: 127.5 x + 128, cut down; or to the nearest, other at ties alone."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all facts: frozen, an unknown key is an error."""


class Weights(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A released file of weights."""

    url: str
    path: str
    """Where it stands below `files.folder`."""
    bytes: int | None = None
    """None where nobody has published the size."""
    sha256: str | None = None
    """None where nobody has published it: the first copy that is used is trusted."""
    direct: bool = True
    """Whether the address is the file's; else it is that of a page that leads to it."""


class Row(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class Deviation(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that the published run and this package do differently."""

    what: str
    published: str
    here: str


class PublishedWays(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The published run's ways where a preset has a choice (`pcb.config.system`)."""

    classes: Classes
    rounding: Rounding
    resize: Resize = "bicubic"


class System(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of Table 1: its model, its published setting, its release."""

    name: str
    kind: str
    """Its name among the kinds of models (`pcb.systems.kinds`)."""
    paper: str
    """arXiv number."""
    description: dict[str, Size]
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
    guidance: Schedule
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    tokenizer: Weights | None = None
    """The file of a tokenizer that no other system has; None for LlamaGen's."""
    weights: Weights | None = None
    """None where there is no file: see `release`."""
    release: str
    """What was released, in one sentence."""
    license: str
    ways: PublishedWays
    table1: Row
    """As the paper's Table 1 has it."""
    rows: tuple[Row, ...] = ()
    """Other rows of the same system."""
    deviations: tuple[Deviation, ...] = ()
    code_differs: tuple[str, ...] = ()
    """In what the released code differs from its own paper."""

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the token grids, coarse to fine; of one order there is one."""
        size: Any = self.description
        return tuple(size.get("scales") or size["grid"][:1])

    @property
    def row_released(self) -> Row | None:
        """The published row that the released weights gave; None without weights."""
        own = [row for row in (self.table1, *self.rows) if row.weights_released]
        return own[0] if own and self.weights is not None else None
